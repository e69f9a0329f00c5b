//! A text that is steered: the difference of means of two sets of prompts is added to the stream while the model writes.
//! `cargo run --example steer -- [MODEL]`; without argument, the small model that is part of the library.
use anyhow::Result;
use thalweg::stream::{Kind, Over, Point, Steering};
use thalweg::{Decoder, Gpu, GpuOptions, RUSTBOOK, SessionOptions};

const HEAP: [&str; 3] = ["The heap is", "We allocate memory on the heap", "A box keeps its value on the heap"];
const STACK: [&str; 3] = ["The stack is", "We push values on the stack", "Integers are kept on the stack"];
const PROMPT: &str = "The value of the variable is stored";

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let name = std::env::args().nth(1).unwrap_or_else(|| RUSTBOOK.into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let decoder = Decoder::load_blocking(&gpu, name)?;
    let model = decoder.model();

    let ids = |texts: &[&str]| texts.iter().map(|text| Ok(model.encode(text)?.ids)).collect::<Result<Vec<_>>>();
    let block = model.spec().num_hidden_layers / 2;
    let points = [Point::new(block, Kind::ResidPost)];
    let steering = Steering::between_blocking(model, &ids(&HEAP)?, &ids(&STACK)?, &points, Over::Last)?;
    for alpha in [-2.0, 0.0, 2.0] {
        let edits = steering.edits(model.spec(), block, alpha)?.into();
        let mut session = decoder.session(SessionOptions { edits, ..Default::default() })?;
        session.prefill_blocking(&model.encode(PROMPT)?.ids)?;
        let mut written = Vec::new();
        while let Some(id) = session.next_token_blocking()? {
            written.push(id);
            if written.len() == 16 {
                break;
            }
        }
        println!("{alpha:>4}: {PROMPT}{}", model.tokenizer()?.decode(&written, true)?.replace('\n', " "));
    }
    Ok(())
}
