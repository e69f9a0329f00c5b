//! A vocabulary of 262,144 on a device with WebGPU's default limits: the table, which is also the head, is larger than one
//! binding of 128 MiB, and lies in chunks of rows.

mod common;

use std::collections::HashMap;

use common::relative;
use half::bf16;
use safetensors::tensor::{Dtype as Stored, TensorView};
use thalweg::stream::{Kind, Point};
use thalweg::{Decoder, Gpu, SessionOptions};

const VOCAB: usize = 262_144;
const WIDTH: usize = 272;
const FFN: usize = 64;

/// Numbers that look random and whose period is no multiple of a row.
fn element(i: usize) -> bf16 {
    let bits = (i as u64 % 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    bf16::from_f32((bits as f32 / (1 << 23) as f32 - 1.0) * 0.2)
}

fn tensor(rows: usize, columns: usize, seed: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..1_000_003).flat_map(|i| element(i + seed).to_le_bytes()).collect();
    let mut bytes = Vec::with_capacity(2 * rows * columns);
    while bytes.len() < 2 * rows * columns {
        let rest = 2 * rows * columns - bytes.len();
        bytes.extend(&pattern[..rest.min(pattern.len())]);
    }
    bytes
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": FFN, "vocab_size": VOCAB,
        "max_position_embeddings": 128, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "tie_word_embeddings": true,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let layer = "model.layers.0";
    let shapes = HashMap::from([
        ("model.embed_tokens.weight".to_string(), vec![VOCAB, WIDTH]),
        (format!("{layer}.self_attn.q_proj.weight"), vec![256, WIDTH]),
        (format!("{layer}.self_attn.k_proj.weight"), vec![128, WIDTH]),
        (format!("{layer}.self_attn.v_proj.weight"), vec![128, WIDTH]),
        (format!("{layer}.self_attn.o_proj.weight"), vec![WIDTH, 256]),
        (format!("{layer}.mlp.gate_proj.weight"), vec![FFN, WIDTH]),
        (format!("{layer}.mlp.up_proj.weight"), vec![FFN, WIDTH]),
        (format!("{layer}.mlp.down_proj.weight"), vec![WIDTH, FFN]),
        (format!("{layer}.input_layernorm.weight"), vec![WIDTH]),
        (format!("{layer}.post_attention_layernorm.weight"), vec![WIDTH]),
        ("model.norm.weight".to_string(), vec![WIDTH]),
    ]);
    let data: Vec<_> = shapes
        .iter()
        .map(|(name, shape)| {
            let seed = if shape[0] == VOCAB { 0 } else { 17 * name.len() };
            (name, shape, tensor(shape[0], shape.get(1).copied().unwrap_or(1), seed))
        })
        .collect();
    let views = data
        .iter()
        .map(|(name, shape, bytes)| (name.to_string(), TensorView::new(Stored::BF16, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

#[test]
fn a_table_beyond_one_binding_embeds_and_predicts() {
    let adapter = pollster::block_on(thalweg::gpu::adapters(Some(wgpu::Backends::PRIMARY))).remove(0);
    let descriptor = wgpu::DeviceDescriptor { required_limits: wgpu::Limits::defaults(), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let gpu = Gpu::from_host(&adapter, device, queue).unwrap();
    assert_eq!(gpu.capabilities().limits.max_storage_buffer_binding_size, 128 << 20);
    let folder = folder();
    let decoder = Decoder::load_blocking(&gpu, folder.path()).unwrap();
    let embeds = |d: &&thalweg::schedule::Dispatch| d.variant.kernel == "embed";
    assert_eq!(decoder.decode_program().recording().dispatches().filter(embeds).count(), 2, "two chunks");

    let row = |id: usize| -> Vec<f32> { (0..WIDTH).map(|c| element((id * WIDTH + c) % 1_000_003).to_f32()).collect() };
    let ids = [0, 1, VOCAB as u32 / 2, VOCAB as u32 - 1, 246_721, 246_722];
    let points = [Point::new(0, Kind::Embed), Point::new(0, Kind::FinalNormalized)];
    let trace = decoder.trace_blocking(&ids, &points).unwrap();
    let embedded = &trace.tensors[&points[0]].data;
    for (id, found) in ids.iter().zip(embedded.chunks_exact(WIDTH)) {
        assert_eq!(found, row(*id as usize), "token {id}");
    }
    let mut session = decoder.session(SessionOptions::default()).unwrap();
    session.prefill_blocking(&ids).unwrap();
    let logits = session.logits_blocking().unwrap();
    let last = &trace.tensors[&points[1]].data[(ids.len() - 1) * WIDTH..];
    // around the edges of chunks, and everywhere between
    let sample: Vec<usize> = (0..VOCAB).filter(|id| id % 4099 == 0 || id % 64 < 2 || *id > VOCAB - 70).collect();
    let dot = |id: &usize| row(*id).iter().zip(last).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>() as f32;
    let wanted: Vec<f32> = sample.iter().map(dot).collect();
    let found: Vec<f32> = sample.iter().map(|id| logits[*id]).collect();
    let error = relative(&found, &wanted);
    assert!(error < 2e-5, "relative error {error:e}");
    let best = (0..VOCAB).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap();
    assert_eq!(session.next_token_blocking().unwrap(), Some(best as u32));
}
