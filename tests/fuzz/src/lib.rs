//! What the targets share: files to read, and what an error must be like.

use std::path::PathBuf;

/// Writes a file of that name into this process's own folder.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("thalweg-fuzz-{}", std::process::id())).join(name);
    std::fs::create_dir_all(path.parent().expect("a name in a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// What went well; what did not must be bad input, told in one sentence that is not endless.
pub fn told<T>(outcome: thalweg::Result<T>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            assert!(error.exit_code() == 4 && !message.contains('\n') && message.len() < 4000, "{message}");
            None
        }
    }
}

/// From now on a panic that is caught is no finding: the library catches those of the `tokenizers` crate and makes errors
/// of them. One that nobody catches still ends the run.
pub fn allow_caught_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}
