//! Sentences into vectors by candle on the CPU, as its own example does it. `peer-candle MODEL`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use peers_common::{Answer, Request, serve};
use tokenizers::{Encoding, PaddingParams, Tokenizer, TruncationParams, pad_encodings};

/// Longer texts are cut, as the model's folder says.
const LONGEST: usize = 256;

fn main() -> Result<()> {
    let model = std::env::args().nth(1).context("peer-candle MODEL")?;
    let model = Path::new(&model);
    let config: Config = serde_json::from_slice(&std::fs::read(model.join("config.json"))?)?;
    let tensors = std::fs::read(model.join("model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(tensors, DType::F32, &Device::Cpu)?;
    let bert = BertModel::load(weights, &config)?;
    let mut tokenizer = Tokenizer::from_file(model.join("tokenizer.json")).map_err(|error| anyhow!(error))?;
    let truncation = TruncationParams { max_length: LONGEST, ..Default::default() };
    tokenizer.with_padding(None).with_truncation(Some(truncation)).map_err(|error| anyhow!(error))?;
    serve("candle 0.11.1, CPU", |request| {
        let Request::Embed { texts, together, vectors } = request else { bail!("only sentences") };
        let start = Instant::now();
        let mut encodings: Vec<(usize, Encoding)> =
            tokenizer.encode_batch(texts, true).map_err(|error| anyhow!(error))?.into_iter().enumerate().collect();
        // neighbours of one length need the least padding
        encodings.sort_by_key(|(_, encoding)| encoding.len());
        let mut all = vec![Vec::new(); encodings.len()];
        for chunk in encodings.chunks_mut(together) {
            let places: Vec<usize> = chunk.iter().map(|(place, _)| *place).collect();
            let mut chunk: Vec<Encoding> = chunk.iter_mut().map(|(_, encoding)| std::mem::take(encoding)).collect();
            pad_encodings(&mut chunk, &PaddingParams::default()).map_err(|error| anyhow!(error))?;
            for (place, vector) in places.into_iter().zip(embed(&bert, &chunk)?) {
                all[place] = vector;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(Answer { seconds, vectors: if vectors { all } else { Vec::new() }, ..Answer::default() })
    })
}

fn embed(bert: &BertModel, texts: &[Encoding]) -> Result<Vec<Vec<f32>>> {
    let length = texts.first().context("no texts")?.len();
    let table = |get: fn(&Encoding) -> &[u32]| {
        let words: Vec<u32> = texts.iter().flat_map(get).copied().collect();
        Tensor::from_vec(words, (texts.len(), length), &Device::Cpu)
    };
    let (ids, mask) = (table(Encoding::get_ids)?, table(Encoding::get_attention_mask)?);
    let states = bert.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
    let mask = mask.to_dtype(DType::F32)?;
    let sums = states.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
    let means = sums.broadcast_div(&mask.sum_keepdim(1)?)?;
    let lengths = means.sqr()?.sum_keepdim(1)?.sqrt()?;
    Ok(means.broadcast_div(&lengths)?.to_vec2()?)
}
