//! What is changed in the stream: the options that all commands which run a model under edits have in common.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use thalweg::Model;
use thalweg::stream::{Edit, Steering, load_edits};

use super::say;

/// Edits of the stream.
#[derive(Args)]
pub struct Changes {
    /// Edits of the stream, as JSON: {"edits":[{"point","tokens":[first,end]|"all","head","keys":[first,end],"op":
    /// "set|add|scale|project","alpha","vector":[…]|{"file","tensor","row"}}]}, points by their full names, keys those of an
    /// attention pattern; may be given several times
    #[arg(long, value_name = "F.json", help_heading = "Stream")]
    edits: Vec<PathBuf>,
    /// Adds ALPHA times the vector of `thalweg stream steer` to the stream in block LAYER; may be given several times
    #[arg(long, value_name = "F@LAYER*ALPHA", help_heading = "Stream")]
    steer: Vec<Steer>,
}

/// A file's vector, times a number.
#[derive(Clone)]
struct Steer {
    file: PathBuf,
    block: usize,
    alpha: f32,
}

impl FromStr for Steer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not FILE@LAYER*ALPHA, such as calm.safetensors@3*-1.5");
        let (file, rest) = text.rsplit_once('@').ok_or_else(wrong)?;
        let (block, alpha) = rest.split_once('*').ok_or_else(wrong)?;
        let (block, alpha) = (block.parse().map_err(|_| wrong())?, alpha.parse().map_err(|_| wrong())?);
        Ok(Steer { file: file.into(), block, alpha })
    }
}

impl Changes {
    /// The edits, in the order of the options, those of files first; proven to be ones of the model.
    pub fn load(&self, model: &Model) -> Result<Vec<Edit>> {
        let mut edits = Vec::new();
        for path in &self.edits {
            edits.extend(load_edits(path, model.spec())?);
        }
        for Steer { file, block, alpha } in &self.steer {
            let steering = Steering::open(file)?;
            if steering.fingerprint != model.fingerprint() {
                let file = file.display();
                say(
                    "warning",
                    &format!("the vectors of {file} are of other weights, or of these stored in another way"),
                );
            }
            edits.extend(steering.edits(model.spec(), *block, *alpha)?);
        }
        Ok(edits)
    }
}
