//! The server without a socket: every address, what is refused, and the contract.

mod contract;
mod corpus;
mod encode;
mod errors;
mod features;
mod growing;
mod page;
mod schema;
mod security;
mod sentences;
mod support;
