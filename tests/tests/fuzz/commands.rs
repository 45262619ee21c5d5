use callpulse_tests::fuzz::{Fuzz, golden};
use contract::wire::command::{CloseCall, ExtendCall, GrantCredit, OpenCall, Relayed, ReportCalls, Terminate};
use contract::wire::credit::{Authorization, Authorize};
use contract::wire::request::{
    RtcCapabilities, RtcConnectTransport, RtcConsume, RtcCreateTransport, RtcProduce, RtcRestartIce, RtcResume,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was understood is understood in the same way when it is relayed.
fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(input: &[u8]) {
    if let Ok(command) = serde_json::from_slice::<T>(input) {
        let encoded = serde_json::to_vec(&command).unwrap();
        assert_eq!(serde_json::from_slice::<T>(&encoded).unwrap(), command);
    }
}

#[test]
fn commands_and_replies() {
    let fuzz = Fuzz::new("commands", golden("command.").unwrap()).unwrap();
    fuzz.run(|input| {
        read::<OpenCall>(input);
        read::<CloseCall>(input);
        read::<GrantCredit>(input);
        read::<ReportCalls>(input);
        read::<Relayed<RtcCapabilities>>(input);
        read::<Relayed<RtcCreateTransport>>(input);
        read::<Relayed<RtcConnectTransport>>(input);
        read::<Relayed<RtcProduce>>(input);
        read::<Relayed<RtcConsume>>(input);
        read::<Relayed<RtcResume>>(input);
        read::<Relayed<RtcRestartIce>>(input);
        read::<Terminate>(input);
        read::<ExtendCall>(input);
        read::<Authorize>(input);
        read::<Authorization>(input);
    })
    .unwrap();
}
