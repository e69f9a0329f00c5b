//! Who says the next word: the logit of the likeliest token, less that of the second, taken apart into what each block's heads
//! and FFN give to it. `cargo run --example attribute -- [MODEL] ["A text that goes on"]`; without arguments, of the small model
//! that is part of the library.
use anyhow::{Context, Result, ensure};
use thalweg::stream::{Lens, Question, Reading};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK, Task};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| RUSTBOOK.into());
    let text = arguments.next().unwrap_or_else(|| "The vector is stored on the".into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let model = Model::load_blocking(&gpu, model, Default::default())?;

    let ids = model.encode(&text)?.ids;
    let view = Lens::new_blocking(&model, 2, &[])?.read_blocking(&ids, &[], None, &Task::default())?;
    let last = view.rows.last().and_then(|row| row.positions.last()).context("an empty text")?;
    let Reading::Distribution(last) = last else { anyhow::bail!("the folder holds no head") };
    let [first, second] = &last.top[..] else { anyhow::bail!("the model gives no numbers") };
    let question = Question { target: Some(first.id), against: Some(second.id), ..Default::default() };
    let found = model.attribute_blocking(&ids, question)?;

    let word = |id: u32| model.tokenizer().ok().and_then(|tokenizer| tokenizer.text_of(id)).unwrap_or_default();
    println!("{text:?}: {:?} before {:?} by {:.4}", word(first.id), word(second.id), found.logit);
    // parts are named L0H3 (a head), 0_attn_bias, 0_mlp_out, or after what stands around the blocks
    let of = |belongs: &dyn Fn(&str) -> bool| -> f64 {
        found.parts.iter().filter(|(name, _)| belongs(name)).map(|(_, value)| value).sum()
    };
    for block in 0..model.spec().num_hidden_layers {
        let (head, own) = (format!("L{block}H"), format!("{block}_"));
        let heads = of(&|name| name.starts_with(&head));
        println!("block {block}: heads {heads:+.4}, the rest {:+.4}", of(&|name| name.starts_with(&own)));
    }
    let blocks = |name: &str| name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with('L');
    println!("around them {:+.4}; all {:.4}", of(&|name| !blocks(name)), found.sum());
    ensure!((found.sum() - found.logit).abs() < 1e-4 * found.logit.abs().max(1.0), "the parts are not the logit");
    Ok(())
}
