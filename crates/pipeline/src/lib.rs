//! Joins model, SAE and run: plan, waves, progress, fetching of weights. The library's front door.
//!
//! Knows nothing of argv or HTTP servers.
