//! Tables whose bytes are beyond what 32 bits can count: read from their place in the file, planned, refused where they do
//! not fit, and, where there is memory for it, run.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use half::bf16;
use thalweg::files::Checkpoint;
use thalweg::stream::{Kind, Point};
use thalweg::{Decoder, Error, Gpu, GpuOptions, LoadOptions};

/// Rows and columns of the table: 4.5 GB of bf16.
const VOCAB: u64 = 2_200_000;
const WIDTH: u64 = 1024;
const TABLE: &str = "model.embed_tokens.weight";

/// A llama of one block that adds nothing to the stream; the table is zeros but for two rows. The file takes no space where
/// the file system knows holes.
fn write(folder: &Path) {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 32,
        "num_key_value_heads": 1, "intermediate_size": 32, "vocab_size": VOCAB, "max_position_embeddings": 64,
        "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    // the table first, so that all others lie behind it
    let tensors = [
        (TABLE.to_string(), vec![VOCAB, WIDTH]),
        (layer("input_layernorm"), vec![WIDTH]),
        (layer("post_attention_layernorm"), vec![WIDTH]),
        ("model.norm.weight".into(), vec![WIDTH]),
        (layer("self_attn.q_proj"), vec![128, WIDTH]),
        (layer("self_attn.k_proj"), vec![32, WIDTH]),
        (layer("self_attn.v_proj"), vec![32, WIDTH]),
        (layer("self_attn.o_proj"), vec![WIDTH, 128]),
        (layer("mlp.gate_proj"), vec![32, WIDTH]),
        (layer("mlp.up_proj"), vec![32, WIDTH]),
        (layer("mlp.down_proj"), vec![WIDTH, 32]),
    ];
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in &tensors {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(name.clone(), serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = serde_json::Value::from(header).to_string();
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let data = 8 + header.len() as u64;
    file.set_len(data + end).unwrap();
    let mut fill = |place: u64, value: f32, count: u64| {
        file.seek(SeekFrom::Start(data + place)).unwrap();
        file.write_all(&bf16::from_f32(value).to_le_bytes().repeat(count as usize)).unwrap();
    };
    fill(2 * WIDTH * 5, 0.5, WIDTH);
    fill(2 * WIDTH * (VOCAB - 1), 1.0, WIDTH);
    fill(2 * WIDTH * VOCAB, 1.0, 3 * WIDTH); // the norms
}

fn load(folder: &Path, options: LoadOptions) -> thalweg::Result<Decoder> {
    let gpu = Gpu::new_blocking(GpuOptions::default()).expect("an adapter");
    pollster::block_on(Decoder::load_with(&gpu, folder, options))
}

#[test]
fn places_beyond_4_gib_are_read_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let file = Checkpoint::open(folder.path()).unwrap();
    let table = file.tensors().find(|info| info.name == TABLE).unwrap();
    assert_eq!(table.bytes, 2 * VOCAB * WIDTH);
    let mut bytes = [0; 4];
    file.read(table, table.bytes - 4, &mut bytes).unwrap();
    assert_eq!(bytes, [0x80, 0x3f, 0x80, 0x3f]);
    file.read(table, 2 * WIDTH * 5 - 2, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 0, 0, 0x3f]);

    let error = load(folder.path(), LoadOptions { memory: Some(1 << 30), ..Default::default() }).map(drop).unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory(what) if what.contains("weights 4432.0 MiB")), "{error}");
}

/// Takes 5 GB on the GPU, and on a software driver of the machine.
#[test]
#[ignore = "takes 5 GB of memory"]
fn tables_beyond_4_gib_are_run() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let decoder = load(folder.path(), LoadOptions { context: Some(64), ..Default::default() }).unwrap();
    let last = VOCAB as u32 - 1;
    let point = Point::new(0, Kind::Embed);
    let trace = decoder.model().trace_blocking(&[last, 5, 0, last - 1], &[point]).unwrap();
    for (row, value) in trace.tensors[&point].data.chunks(WIDTH as usize).zip([1.0, 0.5, 0.0, 0.0]) {
        assert!(row.iter().all(|x| *x == value), "{value}: {:?}", &row[..4]);
    }
    let mut session = decoder.session(Default::default()).unwrap();
    session.prefill_blocking(&[5]).unwrap();
    assert_eq!(session.next_token_blocking().unwrap(), Some(last));
}
