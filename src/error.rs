//! The library's one error type: what went wrong, where, and what to do.

use std::path::PathBuf;

/// Result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Every message is one sentence that says what, where, and where it helps what to do.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No adapter fits the options, or none is there at all.
    #[error("no usable GPU adapter: {0}")]
    NoAdapter(String),

    /// The device exists but lacks something that every kernel needs.
    #[error("the adapter {adapter} cannot run thalweg: {what}")]
    Unsuitable {
        /// Name of the adapter.
        adapter: String,
        /// The limit or feature that is missing.
        what: String,
    },

    /// The device is gone (driver reset, unplugged, destroyed); nothing on it can be used any more.
    #[error("the GPU device was lost: {0}")]
    DeviceLost(String),

    /// An allocation on the device failed, or is larger than the device allows.
    #[error("out of GPU memory: {0}")]
    OutOfMemory(String),

    /// A kernel was refused by the shader compiler or the driver.
    #[error("kernel {kernel} does not compile on this adapter: {message}")]
    Kernel {
        /// Label of the variant, such as `layer_norm[subgroup]`.
        kernel: String,
        /// What the compiler said.
        message: String,
    },

    /// A kernel computes wrong numbers on this adapter with this driver, and no simpler form of it is right there.
    #[error("kernel {kernel} is wrong on this adapter: {what}")]
    WrongNumbers {
        /// Label of the variant.
        kernel: String,
        /// The shape, and the worst element.
        what: String,
    },

    /// wgpu refused a call: a bug in this crate, reported instead of aborting the program.
    #[error("internal GPU error in {during}: {message}")]
    Internal {
        /// What the engine was doing.
        during: String,
        /// What wgpu said.
        message: String,
    },

    /// A file or folder could not be read or written.
    #[error("cannot read or write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A file's content is damaged, contradictory or not what its name says.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// One sentence; names the tensor or key, what was expected and what was found.
        what: String,
    },

    /// The model asks for something that this engine does not do; it is refused rather than run wrongly.
    #[error("{}: unsupported: {what}", path.display())]
    Unsupported {
        /// The file that asks for it.
        path: PathBuf,
        /// What is asked for, by name.
        what: String,
    },

    /// A session has no room for so many tokens.
    #[error("{tokens} tokens are more than the {limit} that this model takes")]
    TooLong {
        /// What it would have.
        tokens: usize,
        /// What the model was made for.
        limit: usize,
    },

    /// A model's numbers left the range of floats: no answer is better than a wrong one.
    #[error("{}: {what}", path.display())]
    NotFinite {
        /// The model.
        path: PathBuf,
        /// The point of the stream where NaN or an infinity first appears, and of which token.
        what: String,
    },

    /// The caller's input cannot be processed.
    #[error("{0}")]
    Input(String),

    /// The operation was cancelled through its `CancelToken`.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// A [`Error::File`] about `path`.
    pub fn file(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Error::File { path: path.into(), what: what.into() }
    }

    /// A [`Error::Unsupported`] about `path`.
    pub fn unsupported(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Error::Unsupported { path: path.into(), what: what.into() }
    }

    /// A [`Error::Io`] about `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    /// The exit code that the command line gives this error: 3 no adapter, 4 bad model or input, 5 device lost or
    /// out of memory, 130 interrupted, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NoAdapter(_) | Error::Unsuitable { .. } => 3,
            Error::Io { .. }
            | Error::File { .. }
            | Error::Unsupported { .. }
            | Error::NotFinite { .. }
            | Error::Input(_)
            | Error::TooLong { .. } => 4,
            Error::DeviceLost(_) | Error::OutOfMemory(_) => 5,
            Error::Cancelled => 130,
            Error::Kernel { .. } | Error::WrongNumbers { .. } | Error::Internal { .. } => 1,
        }
    }
}
