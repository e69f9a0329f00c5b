//! The self-check: what a model is about to run is tried on its adapter first, and what is wrong there is not run.
//!
//! Drivers miscompile kernels. A variant is tried once on each adapter, driver and form of its source, on a few small and odd
//! shapes beside the f64 references; the verdict is kept in the user's cache directory.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::case::{Plan, Size};
use super::plans;
use super::random::Random;
use super::rig::outputs;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, hash, write_whole};
use crate::kernels::{Reduce, Rows, Variant, attention, link, matmul, matvec};
use crate::schedule::Choices;
use crate::task::CancelToken;

/// A variant whose numbers are wrong on this adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongVariant {
    /// The kernel.
    pub kernel: &'static str,
    /// The variant's label.
    pub label: String,
    /// One sentence: the buffer, its worst element, and what it should be; or what the driver said.
    pub what: String,
}

/// What is known of an adapter's variants, by their labels; a file of the cache directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdicts {
    /// What the file is about, lest another adapter's is believed.
    about: String,
    variants: HashMap<String, Verdict>,
    /// Of which it is known that the source is still the same.
    #[serde(skip)]
    current: HashSet<String>,
    #[serde(skip)]
    path: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Verdict {
    /// Of the linked source and its constants.
    source: String,
    /// What is wrong; nothing where it is right.
    wrong: Option<String>,
}

/// Small cases of a variant that are tried.
const PROBES: usize = 3;

impl Gpu {
    /// Tries variants on small odd shapes beside the f64 references and returns those that are wrong. What was tried before
    /// on this adapter with this driver and version is remembered, and not tried again. Models do this when they are loaded,
    /// with their own variants.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`]. What is wrong with a variant is no error.
    pub async fn self_check(&self, variants: &[Variant]) -> Result<Vec<WrongVariant>> {
        self.tried(variants, &CancelToken::new()).await
    }

    async fn tried(&self, variants: &[Variant], stop: &CancelToken) -> Result<Vec<WrongVariant>> {
        let mut seen = HashSet::new();
        let variants: Vec<_> = variants.iter().filter(|v| seen.insert(&v.label)).collect();
        let unknown: Vec<_> = {
            let mut verdicts = self.verdicts();
            let known = verdicts.get_or_insert_with(|| Verdicts::open(self));
            variants.iter().copied().filter(|v| !known.has(v)).collect()
        };
        let mut plans = if unknown.is_empty() { Vec::new() } else { plans() };
        plans.retain(|plan| plan.size == Size::Small && unknown.iter().any(|v| v.label == plan.label()));
        let mut tried = Vec::new();
        for variant in unknown {
            if stop.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let verdict = Verdict { source: source(variant), wrong: self.probe(variant, &plans).await? };
            tried.push((variant.label.clone(), verdict));
        }
        let mut verdicts = self.verdicts();
        let known = verdicts.get_or_insert_with(|| Verdicts::open(self));
        if !tried.is_empty() {
            known.add(tried);
        }
        Ok(variants.into_iter().filter_map(|variant| known.wrong(variant)).collect())
    }

    /// [`Gpu::self_check`], blocking the calling thread.
    pub fn self_check_blocking(&self, variants: &[Variant]) -> Result<Vec<WrongVariant>> {
        pollster::block_on(self.self_check(variants))
    }

    /// What is wrong with a variant.
    async fn probe(&self, variant: &Variant, plans: &[Plan]) -> Result<Option<String>> {
        let own: Vec<_> = plans.iter().filter(|plan| plan.label() == variant.label).collect();
        // from the middle of each third: the first of all are the tiniest
        for i in 0..PROBES.min(own.len()) {
            let plan = own[(2 * i + 1) * own.len() / (2 * PROBES.min(own.len()))];
            let case = plan.make(&mut Random::of(1, &plan.shape));
            let what = match outputs(self, &case, 3).await {
                Ok(outputs) => case.judge(&outputs).err().map(|fault| fault.what),
                Err(lost @ (Error::DeviceLost(_) | Error::OutOfMemory(_))) => return Err(lost),
                Err(error) => Some(error.to_string()),
            };
            if let Some(what) = what {
                return Ok(Some(format!("{}: {what}", plan.shape)));
            }
        }
        Ok(None)
    }

    /// Fails where one of them is wrong: for those that nothing simpler can replace any more.
    pub(crate) async fn all_right(&self, variants: &[Variant]) -> Result<()> {
        self.self_check(variants).await?.first().map_or(Ok(()), |wrong| Err(wrong.error()))
    }

    /// These choices, but for variants that are wrong on this adapter, which give way to the next simpler; `variants` are
    /// those that a model has with given choices.
    ///
    /// # Errors
    /// [`Error::WrongNumbers`] where nothing simpler is left, [`Error::Cancelled`], and as [`Gpu::self_check`].
    pub(crate) async fn right(
        &self,
        mut choices: Choices,
        variants: impl Fn(Choices) -> Vec<Variant>,
        stop: &CancelToken,
    ) -> Result<Choices> {
        loop {
            let wrong = self.tried(&variants(choices), stop).await?;
            let Some(first) = wrong.first() else { return Ok(choices) };
            let mut lower = choices;
            wrong.iter().for_each(|wrong| simplify(&mut lower, wrong));
            if lower == choices {
                return Err(first.error());
            }
            for WrongVariant { label, what, .. } in &wrong {
                log::warn!("{label} is wrong on {} and is not used: {what}", self.info().name);
            }
            choices = lower;
        }
    }
}

impl WrongVariant {
    fn error(&self) -> Error {
        Error::WrongNumbers { kernel: self.label.clone(), what: self.what.clone() }
    }
}

/// Takes the next simpler form of what was wrong.
fn simplify(choices: &mut Choices, wrong: &WrongVariant) {
    match wrong.kernel {
        "matmul" if wrong.label.contains("cooperative") => choices.matmul = matmul::Form::Workgroup,
        "matmul" if choices.matmul == matmul::Form::Wide => choices.matmul = matmul::Form::Subgroup,
        "matmul" => choices.matmul = matmul::Form::Register,
        "attention" if wrong.label.contains("cooperative") => choices.attention = attention::Form::Tile,
        "attention" => choices.attention = attention::Form::Uniform,
        "matvec" => choices.matvec = matvec::Form::Columns,
        "layer_norm" | "rms_norm" => choices.sums = Rows::Shared(Reduce::Workgroup),
        _ if wrong.label.contains("subgroup") => choices.reduce = Reduce::Workgroup,
        _ => {}
    }
}

impl Verdicts {
    /// What was kept of this adapter.
    fn open(gpu: &Gpu) -> Self {
        let (about, path) = (gpu.about(), gpu.kept("self-check", "json"));
        let kept = path.as_ref().and_then(|path| std::fs::read(path).ok());
        let kept: Option<Verdicts> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let variants = kept.filter(|kept| kept.about == about).map(|kept| kept.variants).unwrap_or_default();
        Verdicts { about, variants, current: HashSet::new(), path }
    }

    /// Whether a variant was tried as it is today.
    fn has(&mut self, variant: &Variant) -> bool {
        let label = &variant.label;
        let same = |verdict: &Verdict| verdict.source == source(variant);
        if !self.current.contains(label) && self.variants.get(label).is_some_and(same) {
            self.current.insert(label.clone());
        }
        self.current.contains(label)
    }

    fn wrong(&self, variant: &Variant) -> Option<WrongVariant> {
        let what = self.variants.get(&variant.label)?.wrong.clone()?;
        Some(WrongVariant { kernel: variant.kernel, label: variant.label.clone(), what })
    }

    fn add(&mut self, tried: Vec<(String, Verdict)>) {
        self.current.extend(tried.iter().map(|(label, _)| label.clone()));
        self.variants.extend(tried);
        if let (Some(path), Ok(bytes)) = (&self.path, serde_json::to_vec(self)) {
            write_whole(path, &bytes);
        }
    }
}

/// Names what a variant is compiled from.
fn source(variant: &Variant) -> String {
    let wgsl = link::link(variant, link::Dialect::Naga).wgsl;
    format!("{:016x}", hash(format!("{wgsl}{:?}", variant.constants).as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gpu::GpuOptions;
    use crate::kernels::KERNELS;
    use crate::{Encoder, LoadOptions, Model};

    fn open(cache: &Path) -> Gpu {
        let options = GpuOptions { cache_dir: Some(cache.into()), ..Default::default() };
        Gpu::new_blocking(options).expect("an adapter")
    }

    fn variant(label: &str) -> Variant {
        let all = KERNELS.iter().flat_map(|kernel| (kernel.variants)());
        all.into_iter().find(|variant| variant.label == label).expect(label)
    }

    /// As a driver would that drops β: what is compiled under the label is another kernel.
    fn miscompile(gpu: &Gpu, label: &str) {
        let wrong = Variant { constants: vec![("LANES", 64), ("HAS_BETA", 0)], ..variant(label) };
        gpu.pipeline(&wrong).unwrap();
    }

    /// Post-norm, in f32.
    const MODEL: &str = "tests/fixtures/models/bert_odd";
    /// The norm that an adapter begins with, and what is left in the end.
    fn norms(gpu: &Gpu) -> [&'static str; 2] {
        let first = match Rows::choose(gpu.capabilities()) {
            Rows::Own => "layer_norm[own,scalar,inplace,beta]",
            Rows::Shared(Reduce::Subgroup) => "layer_norm[subgroup,scalar,inplace,beta]",
            Rows::Shared(Reduce::Workgroup) => LAST,
        };
        [first, LAST]
    }

    const LAST: &str = "layer_norm[workgroup,scalar,inplace,beta]";

    fn embedded(gpu: &Gpu, options: LoadOptions) -> Result<Vec<f32>> {
        let encoder = pollster::block_on(Encoder::load_with(gpu, MODEL, options))?;
        Ok(encoder.embed_blocking(&["to be"])?.remove(0))
    }

    fn sums(gpu: &Gpu) -> Rows {
        Model::load_blocking(gpu, MODEL, LoadOptions::default()).unwrap().choices.sums
    }

    #[test]
    fn every_variant_has_small_cases() {
        let plans = plans();
        for variant in KERNELS.iter().flat_map(|kernel| (kernel.variants)()) {
            let small = plans.iter().filter(|plan| plan.size == Size::Small && plan.label() == variant.label);
            assert!(small.count() > 0, "{}", variant.label);
        }
    }

    #[test]
    fn a_wrong_variant_gives_way_and_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = open(folder.path());
        let norms = norms(&gpu);
        if norms[0] == LAST {
            return; // nothing gives way there
        }
        let right = embedded(&open(&folder.path().join("other")), LoadOptions::default()).unwrap();
        miscompile(&gpu, norms[0]);
        assert_eq!(sums(&gpu), Rows::Shared(Reduce::Workgroup));
        let now = embedded(&gpu, LoadOptions::default()).unwrap();
        assert!(now.iter().zip(&right).all(|(a, b)| (a - b).abs() < 1e-6), "{now:?} {right:?}");
        let unchecked = LoadOptions { skip_self_check: true, ..Default::default() };
        let wrong = embedded(&gpu, unchecked).unwrap();
        assert!(wrong.iter().zip(&right).any(|(a, b)| (a - b).abs() > 1e-3), "it is wrong indeed");

        // another program, on the same adapter: nothing is tried again
        let later = open(folder.path());
        let found = later.self_check_blocking(&norms.map(variant)).unwrap();
        assert_eq!(found.iter().map(|wrong| wrong.label.as_str()).collect::<Vec<_>>(), [norms[0]]);
        assert!(found[0].what.contains("relative error"), "{found:?}");
        assert_eq!(later.counts().pipelines, 0);
        assert_eq!(sums(&later), Rows::Shared(Reduce::Workgroup));
        // nor are verdicts of another source, another adapter, or damaged ones believed
        let file = std::fs::read_dir(folder.path().join("self-check")).unwrap().next().unwrap().unwrap().path();
        let kept: Verdicts = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let mut changed = kept.clone();
        changed.variants.values_mut().for_each(|verdict| verdict.source = "another".into());
        let other = Verdicts { about: "another".into(), ..kept };
        for bytes in [serde_json::to_vec(&changed).unwrap(), serde_json::to_vec(&other).unwrap(), b"{".to_vec()] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(sums(&open(folder.path())), Rows::choose(gpu.capabilities()));
        }
    }

    #[test]
    fn where_nothing_simpler_is_left_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = open(folder.path());
        norms(&gpu).iter().for_each(|label| miscompile(&gpu, label));
        let Err(error) = embedded(&gpu, LoadOptions::default()) else { panic!("it loads") };
        assert!(matches!(&error, Error::WrongNumbers { kernel, .. } if kernel == LAST), "{error}");
    }

    /// A folder that cannot be written is no reason not to run.
    #[test]
    fn without_a_cache_it_is_tried_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "no folder").unwrap();
        let gpu = open(&file);
        let variants = norms(&gpu).map(variant);
        let right = gpu.self_check_blocking(&variants[1..]).unwrap();
        assert_eq!((right, gpu.counts().pipelines), (Vec::new(), 1));
        gpu.self_check_blocking(&variants[1..]).unwrap();
        assert_eq!(gpu.counts().pipelines, 1);
        embedded(&gpu, LoadOptions::default()).unwrap();
    }
}
