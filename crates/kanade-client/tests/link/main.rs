//! The link of an agent against a server whose every word is ours: what happens when things break.

#[cfg(test)]
mod breaks;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod server;
#[cfg(test)]
mod subscriptions;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod watches;
