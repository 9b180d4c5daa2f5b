//! Secret values of parameters: sealed before they reach the store, opened only for a Command that is about to leave.
//!
//! XChaCha20-Poly1305 with a random nonce a value. A value is bound to its execution and its name, so that a text from
//! another row opens nothing.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use kanade_model::{ExecId, FanoutPlan, Invalid, ParamText, param::Resolved};
use kanade_ports::{ErrorKind, KeyKeeper, OrderParams, SealingKey, StoreError};
use sha2::Sha256;
use tokio::sync::OnceCell;

use crate::{Repeatable, error::Result};

const NONCE: usize = 24;

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Secrets {
    keeper: Option<Arc<dyn KeyKeeper>>,
    key: Arc<OnceCell<SealingKey>>,
    /// Commands are kept by a broker, on its disk and in clear.
    retained: bool,
}

impl Secrets {
    pub(crate) fn new(keeper: Option<Arc<dyn KeyKeeper>>, retained: bool) -> Self {
        Self {
            keeper,
            key: Arc::default(),
            retained,
        }
    }

    /// Whether what is secret of these values may be sent at all.
    pub(crate) fn check(&self, values: &Resolved) -> Result<(), Invalid> {
        let Some(name) = values.secret.keys().next() else {
            return Ok(());
        };
        let why = if self.retained {
            "no value: it is secret, and the broker of this deployment keeps Commands in clear on its disk; secrets \
             take a deployment with the embedded bus"
        } else if self.keeper.is_none() {
            "no value: it is secret, and this deployment has no place for the key that would seal it"
        } else {
            return Ok(());
        };
        Err(Invalid::new(format!("params.{name}"), "•••", why))
    }

    /// The values as the store may keep them. Makes the key at its first use.
    pub(crate) async fn seal(&self, exec: &ExecId, values: Resolved) -> Result<OrderParams> {
        let mut params = OrderParams {
            plain: values.plain,
            sealed: BTreeMap::new(),
        };
        if values.secret.is_empty() {
            return Ok(params);
        }
        let cipher = cipher(self.made_key().await?);
        for (name, text) in values.secret {
            let nonce = XNonce::generate();
            let bound = bound_to(exec, &name);
            let payload = Payload {
                msg: text.0.as_bytes(),
                aad: &bound,
            };
            let sealed = cipher
                .encrypt(&nonce, payload)
                .map_err(|_| failed(ErrorKind::Unsupported, exec, &name))?;
            params
                .sealed
                .insert(name, BASE64.encode([nonce.as_slice(), &sealed].concat()));
        }
        Ok(params)
    }

    /// The secret values of an execution, for a Command that leaves now.
    ///
    /// # Errors
    /// `Corrupt` when this key does not open them, and never will; other kinds may pass.
    pub(crate) async fn open(
        &self,
        exec: &ExecId,
        params: &OrderParams,
    ) -> Result<BTreeMap<String, ParamText>, StoreError> {
        let mut opened = BTreeMap::new();
        if params.sealed.is_empty() {
            return Ok(opened);
        }
        let key = self.kept_key().await?.ok_or_else(|| {
            StoreError::new(ErrorKind::Corrupt, "open secret parameters").because("there is no key any more")
        })?;
        let cipher = cipher(key);
        for (name, sealed) in &params.sealed {
            let text = open(&cipher, sealed, &bound_to(exec, name));
            let text = text.ok_or_else(|| failed(ErrorKind::Corrupt, exec, name))?;
            opened.insert(name.clone(), ParamText(text));
        }
        Ok(opened)
    }

    /// The fingerprint of a request with parameters, made with the key: a plain digest would let whoever reads the store
    /// try out short secrets.
    pub(crate) async fn keyed(
        &self,
        repeatable: Option<Repeatable>,
        plan: &FanoutPlan,
    ) -> Result<Option<Repeatable>> {
        match repeatable {
            Some(repeatable) if !plan.params.is_empty() && self.keeper.is_some() => {
                let key = self.made_key().await?;
                let mut mac = Hmac::<Sha256>::new_from_slice(&key.0)
                    .expect("a key of any length will do for this digest");
                mac.update(b"kanade idempotency\0");
                mac.update(repeatable.fingerprint.as_bytes());
                let fingerprint = BASE64.encode(mac.finalize().into_bytes());
                Ok(Some(Repeatable {
                    fingerprint,
                    ..repeatable
                }))
            }
            as_it_is => Ok(as_it_is),
        }
    }

    async fn kept_key(&self) -> Result<Option<&SealingKey>, StoreError> {
        if let (None, Some(keeper)) = (self.key.get(), &self.keeper)
            && let Some(kept) = keeper.key().await?
        {
            return Ok(Some(self.key.get_or_init(async || kept).await));
        }
        Ok(self.key.get())
    }

    async fn made_key(&self) -> Result<&SealingKey, StoreError> {
        let keeper = self.keeper.as_ref();
        let keeper =
            keeper.ok_or_else(|| StoreError::new(ErrorKind::Unsupported, "seal secret parameters"))?;
        self.key
            .get_or_try_init(async || match keeper.key().await? {
                Some(key) => Ok(key),
                None => keeper.keep(SealingKey(Key::generate().into())).await,
            })
            .await
    }
}

fn cipher(key: &SealingKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(key.0))
}

/// An execution id holds no NUL.
fn bound_to(exec: &ExecId, name: &str) -> Vec<u8> {
    format!("{exec}\0{name}").into_bytes()
}

fn open(cipher: &XChaCha20Poly1305, sealed: &str, bound: &[u8]) -> Option<String> {
    let sealed = BASE64.decode(sealed).ok()?;
    let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
    let payload = Payload {
        msg: text,
        aad: bound,
    };
    let text = cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
    String::from_utf8(text).ok()
}

fn failed(kind: ErrorKind, exec: &ExecId, name: &str) -> StoreError {
    let what = format!("seal or open the secret parameter `{name}` of execution `{exec}`");
    StoreError::new(kind, what).because("the key is not the one that it was sealed with, or it was changed")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Option<SealingKey>>);

    #[async_trait]
    impl KeyKeeper for Kept {
        async fn key(&self) -> Result<Option<SealingKey>, StoreError> {
            Ok(self.0.lock().unwrap().clone())
        }

        async fn keep(&self, fresh: SealingKey) -> Result<SealingKey, StoreError> {
            Ok(self.0.lock().unwrap().get_or_insert(fresh).clone())
        }
    }

    fn secrets(kept: &Arc<Kept>) -> Secrets {
        Secrets::new(Some(Arc::clone(kept) as _), false)
    }

    fn token(text: &str) -> Resolved {
        Resolved {
            secret: BTreeMap::from([("token".to_owned(), ParamText(text.to_owned()))]),
            ..Resolved::default()
        }
    }

    #[tokio::test]
    async fn a_value_opens_for_its_execution_and_its_name_only_also_after_a_restart() {
        let kept = Arc::new(Kept::default());
        let (one, other) = ("e-1".parse().unwrap(), "e-2".parse().unwrap());
        let params = secrets(&kept).seal(&one, token("hunter2")).await.unwrap();
        assert!(!params.sealed["token"].contains("hunter2"));
        assert_eq!(
            secrets(&kept).open(&one, &params).await.unwrap(),
            token("hunter2").secret
        );

        let error = secrets(&kept).open(&other, &params).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let mut renamed = params.clone();
        let sealed = renamed.sealed.remove("token").unwrap();
        renamed.sealed.insert("other".into(), sealed.clone());
        assert!(secrets(&kept).open(&one, &renamed).await.is_err());
        let mut changed = params.clone();
        changed
            .sealed
            .insert("token".into(), format!("A{}", &sealed[1..]));
        let same = changed == params;
        assert_eq!(secrets(&kept).open(&one, &changed).await.is_ok(), same);
        let no_key = secrets(&Arc::default()).open(&one, &params).await.unwrap_err();
        assert_eq!(no_key.kind(), ErrorKind::Corrupt);
    }

    #[tokio::test]
    async fn the_same_value_never_looks_the_same() {
        let secrets = secrets(&Arc::default());
        let exec = "e-1".parse().unwrap();
        let one = secrets.seal(&exec, token("hunter2")).await.unwrap();
        assert_ne!(one, secrets.seal(&exec, token("hunter2")).await.unwrap());
    }

    #[tokio::test]
    async fn a_fingerprint_needs_the_key_and_stays_the_same() {
        let kept = Arc::default();
        let plain = Repeatable {
            key: "k".into(),
            fingerprint: "f".into(),
        };
        let mut plan = FanoutPlan::default();
        let keyed = async |secrets: Secrets, plan: &FanoutPlan| {
            let keyed = secrets.keyed(Some(plain.clone()), plan).await.unwrap();
            keyed.unwrap().fingerprint
        };
        assert_eq!(keyed(secrets(&kept), &plan).await, "f", "as before parameters");
        plan.params.insert("token".into(), "hunter2".into());
        let first = keyed(secrets(&kept), &plan).await;
        assert_eq!(first, keyed(secrets(&kept), &plan).await);
        assert_ne!(first, keyed(secrets(&Arc::default()), &plan).await);
    }
}
