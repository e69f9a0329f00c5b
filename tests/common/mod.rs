//! What several tests need: an adapter, the fixtures, and how far two vectors are apart.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use thalweg::files::Checkpoint;
use thalweg::{Decoder, Dtype, Encoder, Gpu, GpuOptions, LoadOptions, Session, SessionOptions};

/// Models are held to what f32 can do; products by cooperative matrices, which round to f16, have cases of their own.
pub static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    let options = GpuOptions { cooperative_matrices: Some(false), ..Default::default() };
    Gpu::new_blocking(options).expect("an adapter")
});

/// A folder of `tests/fixtures`.
pub fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// The real all-MiniLM-L6-v2, which `tests/run.sh` puts into the cache.
pub fn minilm() -> PathBuf {
    thalweg::find_model(Path::new("all-MiniLM-L6-v2")).expect("tests/run.sh fetches the model")
}

pub fn load(gpu: &Gpu, model: impl AsRef<Path>, dtype: Dtype) -> thalweg::Result<Encoder> {
    pollster::block_on(Encoder::load_with(gpu, model, LoadOptions { dtype, ..Default::default() }))
}

/// The tensors that another implementation computed.
pub struct Expected(pub Checkpoint);

impl Expected {
    pub fn open(folder: &str) -> Self {
        Expected(Checkpoint::open_file(&fixtures(folder).join("expected.safetensors")).unwrap())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}")).shape.clone()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let info = self.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        let mut bytes = vec![0; info.bytes as usize];
        self.0.read(info, 0, &mut bytes).unwrap();
        bytes
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.bytes(name))
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.bytes(name))
    }
}

/// ‖a − b‖/‖b‖, NaN where anything is NaN or the lengths differ.
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    let b: Vec<f64> = b.iter().copied().map(f64::from).collect();
    thalweg::check::relative_error(a, &b)
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    assert_eq!(a.len(), b.len());
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A decoder of `tests/fixtures/decoders`.
pub fn decoder(gpu: &Gpu, name: &str, dtype: Dtype) -> Decoder {
    let options = LoadOptions { dtype, ..Default::default() };
    let folder = fixtures(&format!("decoders/{name}"));
    pollster::block_on(Decoder::load_with(gpu, folder, options)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A session that goes on past tokens that end a text, as the fixtures do.
pub fn session(decoder: &Decoder) -> Session {
    decoder.session(SessionOptions { ignore_eos: true, ..Default::default() }).unwrap()
}

pub fn go_on(session: &mut Session, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|_| session.next_token_blocking().unwrap().expect("ends are ignored")).collect()
}

/// The points that other implementations were asked for: those that have their names there, and the patterns.
pub fn published(spec: &thalweg::model::Spec) -> Vec<thalweg::stream::Point> {
    let points = thalweg::stream::parse_points("all,attn.hook_pattern", spec).unwrap();
    points.into_iter().filter(|point| spec.is_decoder() || point.kind != thalweg::stream::Kind::Logits).collect()
}
