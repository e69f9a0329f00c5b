//! What is learnt of an adapter and kept in the cache directory, for the next program on the same adapter, driver and version.

use std::path::{Path, PathBuf};

use super::Gpu;
use crate::cache::cache_dir;

impl Gpu {
    /// Names adapter, driver and version: what is learnt of one says nothing of another.
    pub(crate) fn about(&self) -> String {
        let i = self.info();
        let (backend, version) = (i.backend.to_str(), env!("CARGO_PKG_VERSION"));
        format!(
            "{} {backend} {:04x}:{:04x}, {} {}, thalweg {version}",
            i.name, i.vendor, i.device, i.driver, i.driver_info
        )
    }

    /// The file of that folder of the cache directory which is about this adapter; `None` where there is no such directory.
    pub(crate) fn kept(&self, folder: &str, extension: &str) -> Option<PathBuf> {
        let root = self.0.options.as_ref().and_then(|options| options.cache_dir.clone()).or_else(cache_dir)?;
        Some(root.join(folder).join(format!("{:016x}.{extension}", hash(self.about().as_bytes()))))
    }
}

/// Writes a file whole or not at all, with the folders around it. Without it the next program learns again, so that nothing
/// else is lost: what goes wrong is logged.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension(format!("{}.part", std::process::id()));
    let written = (|| {
        std::fs::create_dir_all(path.parent().unwrap_or(path))?;
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, path)
    })();
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        log::debug!("what was learnt of the adapter is not kept: {}: {error}", path.display());
    }
}

/// FNV-1a, as the same bytes have it in every program.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
