//! placeholder
use thalweg::check::*;
use thalweg::{Gpu, GpuOptions};
#[test]
fn all() {
    let gpu = Gpu::new_blocking(GpuOptions::default()).unwrap();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    run_vectors(&gpu, &dir, |o| println!("{:?} {} {:?} {:?} {:?}", o.status, o.name, o.error, o.kernels, o.reason))
        .unwrap();
}
