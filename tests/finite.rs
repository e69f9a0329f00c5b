//! Models whose numbers leave the range of floats: an error that names where, and no answer.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Expected, GPU, fixtures, load, session};
use safetensors::tensor::TensorView;
use thalweg::{Decoder, Dtype, Error, Model, Sampling};

/// A copy of a folder in f32 in which one tensor's elements are so large that their products overflow.
fn overflowing(folder: &Path, tensor: &str, to: &Path) {
    copy(folder, to);
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, TensorView> = file.tensors().into_iter().collect();
    let old = tensors.get(tensor).unwrap_or_else(|| panic!("no {tensor}")).clone();
    assert_eq!(old.dtype(), safetensors::Dtype::F32);
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(old.data());
    let most = values.iter().fold(0f32, |most, x| most.max(x.abs()));
    let large: Vec<f32> = values.iter().map(|x| x / most * 3e38).collect();
    let view = TensorView::new(old.dtype(), old.shape().to_vec(), bytemuck::cast_slice(&large)).unwrap();
    tensors.insert(tensor.into(), view);
    std::fs::write(to.join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

fn copy(folder: &Path, to: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        } else {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        }
    }
}

fn names(error: Error, point: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::NotFinite { .. }) && text.contains(point), "{text}");
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn decoders_say_in_which_block() {
    let ids = Expected::open("decoders/llama_mqa_bias").ids("ids");
    for (tensor, point) in [
        ("model.layers.1.mlp.down_proj.weight", "blocks.1.hook_resid_post"),
        ("model.layers.0.self_attn.o_proj.weight", "blocks.0.hook_resid_post"),
        ("model.norm.weight", "what follows the last block"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        overflowing(&fixtures("decoders/llama_mqa_bias"), tensor, dir.path());
        let decoder = Decoder::load_blocking(&GPU, dir.path()).unwrap();
        for temperature in [0.0, 1.0] {
            let mut session = session(&decoder);
            session.set_sampling(Sampling { temperature, ..Default::default() }).unwrap();
            session.prefill_blocking(&ids).unwrap();
            let before = session.tokens().len();
            if point.starts_with("blocks") {
                names(session.next_token_blocking().unwrap_err(), point);
                assert_eq!(session.tokens().len(), before);
            }
            names(session.logits_blocking().unwrap_err(), point);
        }
        // an instrument shows what is there
        let model = Model::load_blocking(&GPU, dir.path(), Default::default()).unwrap();
        model.trace_blocking(&ids, &thalweg::stream::Point::of_model(model.spec())).unwrap();
    }
}

#[test]
fn encoders_say_in_which_block() {
    let dir = tempfile::tempdir().unwrap();
    overflowing(&fixtures("models/bert_odd"), "encoder.layer.1.output.dense.weight", dir.path());
    let encoder = load(&GPU, dir.path(), Dtype::Auto).unwrap();
    names(encoder.embed_blocking(&["two rivers meet"]).unwrap_err(), "blocks.1.hook_resid_post");
}
