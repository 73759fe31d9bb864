//! Links.

mod serving;
