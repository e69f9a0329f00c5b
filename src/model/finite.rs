//! Numbers that leave the range of floats: where in the stream they first do.

use super::open::Model;
use crate::error::{Error, Result};
use crate::stream::{Kind, Point};

impl Model {
    /// The error for a sequence whose result is not finite: the first point of the stream that is not, found by tracing
    /// the sequence again. What is NaN or infinite in the stream stays so, so that the blocks are searched by halves.
    pub(crate) async fn not_finite(&self, ids: &[u32]) -> Error {
        match self.search(ids).await {
            Ok(what) => Error::NotFinite { path: self.path.clone(), what },
            Err(error) => error,
        }
    }

    async fn search(&self, ids: &[u32]) -> Result<String> {
        let ids = &ids[..ids.len().min(self.spec().max_tokens())];
        let blocks = self.spec().num_hidden_layers;
        let point = |block| match block {
            0 => Point::new(0, Kind::Embed),
            block => Point::new(block - 1, Kind::ResidPost),
        };
        let (mut low, mut high, mut found) = (0, blocks + 1, None);
        while low < high {
            let middle = (low + high) / 2;
            let place = if middle > blocks { None } else { self.bad_token(ids, point(middle)).await? };
            match place {
                Some(token) => {
                    high = middle;
                    found = Some((point(middle), token));
                }
                None => low = middle + 1,
            }
        }
        Ok(match found {
            Some((point, token)) => format!("{point} is not finite from token {token} on; try --dtype f32"),
            None => "what follows the last block is not finite; try --dtype f32".into(),
        })
    }

    /// The first token whose row is not finite at a point.
    async fn bad_token(&self, ids: &[u32], point: Point) -> Result<Option<usize>> {
        let trace = self.trace(ids, &[point]).await?;
        let tensor = trace.tensors.get(&point);
        let bad = |row: &[f32]| row.iter().any(|x| !x.is_finite());
        Ok(tensor.and_then(|t| t.data.chunks_exact(self.spec().hidden_size).position(bad)))
    }
}
