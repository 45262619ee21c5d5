//! The macros that turn a list of requests into an enum, with the payloads of requests and responses.

/// Declares an enum of requests: variant, payload, payload of the response.
macro_rules! requests {
    ($(#[$meta:meta])* $name:ident as $schema:ident {
        $($(#[doc = $doc:literal])* $variant:ident($payload:ty) -> $response:ty, by $by:ident, repeat $repeat:literal;)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Deserialize, IntoStaticStr, VariantNames)]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        pub enum $name {
            $($(#[doc = $doc])* $variant($payload),)*
        }

        impl $name {
            /// In the order of [`VariantNames::VARIANTS`].
            pub(super) fn declarations() -> impl Iterator<Item = RequestDeclaration> {
                let names = Self::VARIANTS.iter();
                let declared = [$((
                    concat!($($doc),*),
                    RequestedBy::$by,
                    $repeat,
                    SchemaOf::<$schema<$payload>>::schema as SchemaFn,
                    SchemaOf::<$response>::schema as SchemaFn,
                ),)*];
                names.zip(declared).map(|(&name, (meaning, by, repeat, request, response))| RequestDeclaration {
                    name,
                    meaning,
                    by,
                    repeat,
                    request,
                    response,
                })
            }
        }
    };
}

/// Declares RTC requests: payload, operation of the media-worker, payload of the response.
macro_rules! rtc_requests {
    ($($(#[doc = $doc:literal])* $request:ident = $operation:literal -> $reply:ty, repeat $repeat:literal;)*) => {
        requests! {
            /// What a party requests of the media-worker that hosts its call.
            RtcRequest as InCall { $($(#[doc = $doc])* $request($request) -> $reply, by Both, repeat $repeat;)* }
        }

        impl RtcRequest {
            /// The commands as which they are relayed to the media-worker, in the order of [`VariantNames::VARIANTS`].
            pub(in crate::wire) const RELAYED: &[(&'static str, PayloadType, PayloadType)] =
                &[$(($operation, PayloadType::of::<Relayed<$request>>(), PayloadType::of::<$reply>()),)*];

            /// The name of the media-worker's operation.
            pub fn operation(&self) -> &'static str {
                match self {
                    $(Self::$request(_) => $operation,)*
                }
            }
        }

        /// As the media-worker reads it: the payload alone, since the subject names the operation.
        impl Serialize for RtcRequest {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$request(request) => request.serialize(serializer),)*
                }
            }
        }

        $(impl MediaRequest for $request {
            const OPERATION: &'static str = $operation;
            type Reply = $reply;
        })*
    };
}

pub(super) use {requests, rtc_requests};
