//! `--metrics`: answers those who scrape the server's metrics over HTTP.

mod address;
mod connection;
mod request;
mod serve;

pub use address::Address;
pub use serve::Scraped;
