//! Bearer token to principal.
