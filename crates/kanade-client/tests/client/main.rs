//! The client against a small server on a real socket.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod double;
#[cfg(test)]
mod events;
#[cfg(test)]
mod lists;
mod output;
mod releases;
