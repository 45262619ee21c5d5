//! How a client authenticates at NATS, and how it authenticates the server: users with passwords, nkeys and credentials, and TLS.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{ClientConfig, RootCertStore};
use nkeys::{KeyPair, KeyPairType};

use crate::jetstream::connection::NatsSettings;

impl NatsSettings {
    /// What is wrong with the keys together, and with the files that they name, each as `key: message`.
    pub fn problems(&self) -> Vec<String> {
        let ways = [
            !self.user.is_empty(),
            self.nkey_seed_file.is_some(),
            self.credentials_file.is_some(),
        ];
        let mut problems = Vec::new();
        if ways.into_iter().filter(|given| *given).count() > 1 {
            problems.push("nats.user: set only one of it, nats.nkey_seed_file and nats.credentials_file".to_owned());
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            problems.push("nats.certificate_file: set it together with nats.key_file".to_owned());
        }
        if let Some(problem) = self.irregular_file() {
            problems.push(problem);
            return problems;
        }
        let files = [
            self.nkey_seed_file
                .as_deref()
                .and_then(|file| nkey_seed(file).err())
                .map(|error| format!("nats.nkey_seed_file: {error}")),
            self.credentials_file
                .as_deref()
                .and_then(|file| credentials(file).err())
                .map(|error| format!("nats.credentials_file: {error}")),
            self.tls_problem(),
        ];
        problems.extend(files.into_iter().flatten());
        problems
    }

    /// The first file that is a pipe, a folder or a device: reading it could take for ever.
    fn irregular_file(&self) -> Option<String> {
        let files = [
            ("nats.ca_file", &self.ca_file),
            ("nats.certificate_file", &self.certificate_file),
            ("nats.key_file", &self.key_file),
            ("nats.nkey_seed_file", &self.nkey_seed_file),
            ("nats.credentials_file", &self.credentials_file),
        ];
        let is_irregular = |file: &PathBuf| fs::metadata(file).is_ok_and(|found| !found.is_file());
        files.into_iter().find_map(|(key, file)| {
            let file = file.as_ref().filter(|file| is_irregular(file))?;
            Some(format!(
                "{key}: {} cannot be read: is not a regular file",
                file.display()
            ))
        })
    }

    /// Whether the connection must be encrypted. The server may require it, too.
    pub fn requires_tls(&self) -> bool {
        self.ca_file.is_some() || self.certificate_file.is_some() || self.url.contains("tls://")
    }

    /// How the client introduces itself, for people.
    pub(crate) fn identity(&self) -> String {
        match (&self.nkey_seed_file, &self.credentials_file) {
            (Some(file), _) => format!("the nkey of {}", file.display()),
            (None, Some(file)) => format!("the credentials of {}", file.display()),
            (None, None) if self.user.is_empty() => "a client without user".to_owned(),
            (None, None) => self.user.clone(),
        }
    }

    /// Adds authentication and TLS. Certificates are read again at every attempt to connect.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn authenticate(&self, options: ConnectOptions, password: &str) -> Result<ConnectOptions, String> {
        let mut options = options.require_tls(self.requires_tls());
        if let Some(file) = &self.nkey_seed_file {
            options = options.nkey(nkey_seed(file).map_err(|error| format!("nats.nkey_seed_file: {error}"))?);
        } else if let Some(file) = &self.credentials_file {
            let text = credentials(file).map_err(|error| format!("nats.credentials_file: {error}"))?;
            options = options
                .credentials(&text)
                .map_err(|error| format!("nats.credentials_file: {error}"))?;
        } else if !self.user.is_empty() {
            options = options.user_and_password(self.user.clone(), password.to_owned());
        }
        if let Some(file) = &self.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options)
    }

    fn tls_problem(&self) -> Option<String> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca_file {
            for certificate in match certificates(file) {
                Ok(certificates) => certificates,
                Err(error) => return Some(format!("nats.ca_file: {error}")),
            } {
                if let Err(error) = roots.add(certificate) {
                    return Some(format!("nats.ca_file: {}: {error}", file.display()));
                }
            }
        }
        let (Some(file), Some(key_file)) = (&self.certificate_file, &self.key_file) else {
            return None;
        };
        let chain = match certificates(file) {
            Ok(chain) => chain,
            Err(error) => return Some(format!("nats.certificate_file: {error}")),
        };
        let key = match PrivateKeyDer::from_pem_file(key_file) {
            Ok(key) => key,
            Err(error) => {
                return Some(format!(
                    "nats.key_file: {}",
                    unusable(key_file, "a private key in PEM", error)
                ));
            }
        };
        let config = ClientConfig::builder().with_root_certificates(roots);
        let error = config.with_client_auth_cert(chain, key).err()?;
        Some(format!(
            "nats.key_file: {} does not fit the certificate of {}: {error}",
            key_file.display(),
            file.display()
        ))
    }
}

/// The seed of a user's nkey: the first line that is neither empty nor a comment.
fn nkey_seed(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
    let mut lines = text.lines().map(str::trim);
    let seed = lines.find(|line| !line.is_empty() && !line.starts_with(['#', '-']));
    let seed = seed.unwrap_or_default().to_owned();
    // The error of the library may quote the seed.
    match KeyPair::from_seed(&seed) {
        Ok(key) if key.key_pair_type() == KeyPairType::User => Ok(seed),
        Ok(_) => Err(format!("{} has no user's seed, which begins with SU", file.display())),
        Err(_) => Err(format!(
            "{} has no valid seed, which begins with SU and has 58 characters",
            file.display()
        )),
    }
}

/// The JWT and the seed of a user, as `nsc` writes them.
fn credentials(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
    match ConnectOptions::new().credentials(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(format!(
            "{} is no credentials file, which has a user's JWT and seed",
            file.display()
        )),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(format!("{} has no certificate in PEM", file.display())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(file, "certificates in PEM", error)),
    }
}

fn unreadable(file: &Path, error: impl Display) -> String {
    format!("{} cannot be read: {error}", file.display())
}

fn unusable(file: &Path, wanted: &str, error: impl Display) -> String {
    format!("{} cannot be read as {wanted}: {error}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(set: impl FnOnce(&mut NatsSettings)) -> Vec<String> {
        let mut settings = NatsSettings::default();
        set(&mut settings);
        settings.problems()
    }

    #[test]
    fn contradictions_and_missing_files_are_named() {
        assert!(NatsSettings::default().problems().is_empty());
        let folder = std::env::temp_dir();
        let missing = folder.join("callpulse-no-such-file");
        let both = problems(|settings| {
            settings.user = "ws-edge".to_owned();
            settings.nkey_seed_file = Some(missing.clone());
        });
        assert!(
            both.len() == 2 && both.iter().any(|problem| problem.contains("only one")),
            "{both:?}"
        );
        let alone = problems(|settings| settings.certificate_file = Some(missing.clone()));
        assert_eq!(alone, ["nats.certificate_file: set it together with nats.key_file"]);
        let device = problems(|settings| settings.ca_file = Some("/dev/zero".into()));
        assert_eq!(
            device,
            ["nats.ca_file: /dev/zero cannot be read: is not a regular file"]
        );
        for (key, problems) in [
            (
                "nkey_seed_file",
                problems(|settings| settings.nkey_seed_file = Some(missing.clone())),
            ),
            (
                "credentials_file",
                problems(|settings| settings.credentials_file = Some(missing.clone())),
            ),
            ("ca_file", problems(|settings| settings.ca_file = Some(missing.clone()))),
        ] {
            let is_named = problems
                .iter()
                .all(|problem| problem.contains(key) && problem.contains("cannot be read"));
            assert!(problems.len() == 1 && is_named, "{key}: {problems:?}");
        }
    }

    #[test]
    fn a_wrong_seed_is_not_quoted() {
        let seeds = [
            "SUAMK2FG",
            &KeyPair::new_account().seed().unwrap(),
            &KeyPair::new_user().seed().unwrap(),
        ]
        .map(str::to_owned);
        let file = std::env::temp_dir().join(format!("callpulse-seed-{}", std::process::id()));
        let found = seeds.clone().map(|seed| {
            fs::write(&file, format!("# a comment\n{seed}\n")).unwrap();
            nkey_seed(&file)
        });
        fs::remove_file(&file).unwrap();
        assert_eq!(found[2], Ok(seeds[2].clone()));
        for (seed, found) in seeds.iter().zip(&found).take(2) {
            let error = found.clone().unwrap_err();
            assert!(!error.contains(seed) && error.contains("SU"), "{error}");
        }
    }
}
