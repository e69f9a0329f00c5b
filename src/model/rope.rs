//! Rotary position embedding: the frequencies of every scaling, computed as transformers does, in its f32 order.

use crate::error::{Error, Result};
use crate::files::Config;

/// One rotary embedding of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Pairs of a head that turn; the elements after the first `2 · pairs` stay as they are.
    pub pairs: usize,
    /// The divisor of the exponents: 2 · pairs, or one less where the share of a head that turns is odd.
    pub dims: usize,
    /// The base.
    pub theta: f32,
    /// How the frequencies are changed for longer texts.
    pub scaling: Scaling,
    /// cos and sin are multiplied by this.
    pub attention_factor: f32,
}

/// How frequencies are changed for texts longer than those that the model was first made for.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Frequencies that are the same at every length, whatever made them: linear, llama3 and yarn.
    Fixed(Vec<f32>),
    /// θ grows with the length once it is above the original one, and with it every frequency.
    Dynamic {
        /// s of θ' = θ · (s·n/L − (s − 1))^(dim/(dim − 2)).
        factor: f64,
        /// L.
        original: usize,
    },
    /// One set of frequencies up to a length, another for all positions beyond it.
    LongRope {
        /// Up to that length.
        short: Vec<f32>,
        /// Beyond.
        long: Vec<f32>,
        /// The length.
        original: usize,
    },
}

/// What is known of a rotary embedding before its scaling is read.
pub(super) struct Base {
    /// The scaling, by the name that it has now.
    pub kind: &'static str,
    /// Elements of a head that turn, before they are rounded up to pairs.
    pub dims: usize,
    /// The base.
    pub theta: f64,
    /// The length that the model is made for.
    pub length: usize,
    /// The length that it was first made for.
    pub original: usize,
}

/// f32 power, rounded once.
fn power(base: f32, exponent: f32) -> f32 {
    f64::from(base).powf(f64::from(exponent)) as f32
}

/// θ^(2k/dims) for every pair k.
fn powers(dims: usize, theta: f32) -> impl Iterator<Item = f32> {
    (0..dims).step_by(2).map(move |i| power(theta, i as f32 / dims as f32))
}

impl Rope {
    /// Reads the scaling out of the object that describes it.
    pub(super) fn read(object: &Config, base: &Base) -> Result<Self> {
        let (dims, theta) = (base.dims, base.theta as f32);
        let (scaling, attention_factor) = match base.kind {
            "linear" => (linear(object, dims, theta)?, 1.0),
            "dynamic" => {
                if dims == 2 {
                    return Err(Error::unsupported(object.path(), "dynamic rotation of 2 elements of a head"));
                }
                (Scaling::Dynamic { factor: positive(object, "factor")?, original: base.length }, 1.0)
            }
            "llama3" => (llama3(object, base)?, 1.0),
            "yarn" => yarn(object, base)?,
            "longrope" => longrope(object, base)?,
            _ => (Scaling::None, 1.0),
        };
        let attention_factor = attention_factor as f32;
        let rope = Rope { pairs: dims.div_ceil(2), dims, theta, scaling, attention_factor };
        let sets = match &rope.scaling {
            Scaling::LongRope { short, long, .. } => vec![short.clone(), long.clone()],
            _ => vec![rope.frequencies(0)],
        };
        if !sets.iter().flatten().chain([&attention_factor]).all(|x| x.is_finite()) {
            let what =
                format!("the numbers of the {} rotary embedding give frequencies that are not finite", base.kind);
            return Err(Error::file(object.path(), what));
        }
        Ok(rope)
    }

    /// The frequencies for a sequence of that many tokens, one for each pair.
    pub fn frequencies(&self, tokens: usize) -> Vec<f32> {
        let of = |theta| powers(self.dims, theta).map(|p| 1.0 / p).collect();
        match &self.scaling {
            Scaling::Fixed(frequencies) => frequencies.clone(),
            Scaling::Dynamic { factor, original } if tokens > *original => {
                let grown = *factor as f32 * tokens as f32 / *original as f32 - (factor - 1.0) as f32;
                // torch takes a number as exponent in f64
                let exponent = self.dims as f64 / (self.dims as f64 - 2.0);
                of(self.theta * f64::from(grown).powf(exponent) as f32)
            }
            Scaling::None | Scaling::Dynamic { .. } => of(self.theta),
            Scaling::LongRope { short, long, original } => {
                if tokens > *original {
                    long.clone()
                } else {
                    short.clone()
                }
            }
        }
    }

    /// Lengths with the same number have the same frequencies: a cache of turned keys is right only within one.
    pub fn epoch(&self, tokens: usize) -> usize {
        match &self.scaling {
            Scaling::None | Scaling::Fixed(_) => 0,
            Scaling::Dynamic { original, .. } => {
                if tokens > *original {
                    tokens
                } else {
                    0
                }
            }
            Scaling::LongRope { original, .. } => usize::from(tokens > *original),
        }
    }

    /// Appends cos and sin of each pair at a position, times the attention factor.
    pub fn angles(&self, frequencies: &[f32], position: u32, out: &mut Vec<f32>) {
        for frequency in frequencies {
            // the product is rounded to f32, as there; its cos and sin are rounded once, alike on every platform
            let angle = f64::from(position as f32 * frequency);
            out.extend([angle.cos() as f32 * self.attention_factor, angle.sin() as f32 * self.attention_factor]);
        }
    }
}

fn positive(object: &Config, key: &str) -> Result<f64> {
    match object.f64(key)? {
        number if number > 0.0 => Ok(number),
        number => Err(object.error(key, format!("expected a number above 0, found {number}"))),
    }
}

fn linear(object: &Config, dims: usize, theta: f32) -> Result<Scaling> {
    let factor = positive(object, "factor")? as f32;
    Ok(Scaling::Fixed(powers(dims, theta).map(|p| 1.0 / p / factor).collect()))
}

fn llama3(object: &Config, base: &Base) -> Result<Scaling> {
    let factor = positive(object, "factor")? as f32;
    let (low, high) = (positive(object, "low_freq_factor")?, positive(object, "high_freq_factor")?);
    let original = base.original as f64;
    let (longest, shortest) = ((original / low) as f32, (original / high) as f32);
    let scaled = |power: f32| {
        let plain = 1.0 / power;
        // torch divides a number by a tensor as reciprocal times number
        let wavelength = 1.0 / plain * (2.0 * std::f64::consts::PI) as f32;
        if wavelength > longest {
            plain / factor
        } else if wavelength < shortest {
            plain
        } else {
            let smooth = (1.0 / wavelength * original as f32 - low as f32) / (high - low) as f32;
            (1.0 - smooth) * plain / factor + smooth * plain
        }
    };
    Ok(Scaling::Fixed(powers(base.dims, base.theta as f32).map(scaled).collect()))
}

fn yarn(object: &Config, base: &Base) -> Result<(Scaling, f64)> {
    if !base.dims.is_multiple_of(2) {
        return Err(Error::unsupported(object.path(), format!("yarn rotation of {} elements of a head", base.dims)));
    }
    if base.theta == 1.0 {
        return Err(Error::unsupported(object.path(), "yarn rotation with a base of 1"));
    }
    let original = base.original as f64;
    let factor = match object.is_null("factor") {
        true => base.length as f64 / original,
        false => positive(object, "factor")?,
    };
    // 0 counts as missing
    let given = |key| Ok::<_, Error>(object.opt_f64(key)?.filter(|&number| number != 0.0));
    let attention_factor = match (object.opt_f64("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
        (Some(given), ..) => given,
        (None, Some(one), Some(all)) => magnitude(factor, one) / magnitude(factor, all),
        _ => magnitude(factor, 1.0),
    };
    let dims = base.dims as f64;
    let dimension =
        |turns: f64| dims * (original / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.theta.ln());
    let mut low = dimension(given("beta_fast")?.unwrap_or(32.0));
    let mut high = dimension(given("beta_slow")?.unwrap_or(1.0));
    if object.bool_or("truncate", !object.is_null("truncate"))? {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dims - 1.0));
    if low == high {
        high += 0.001;
    }
    let blended = |(k, power): (usize, f32)| {
        let ramp = ((k as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        let extrapolated = 1.0 - ramp;
        1.0 / (factor as f32 * power) * (1.0 - extrapolated) + 1.0 / power * extrapolated
    };
    let frequencies = powers(base.dims, base.theta as f32).enumerate().map(blended).collect();
    Ok((Scaling::Fixed(frequencies), attention_factor))
}

fn magnitude(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

fn longrope(object: &Config, base: &Base) -> Result<(Scaling, f64)> {
    let pairs = base.dims.div_ceil(2);
    let set = |key: &str| -> Result<Vec<f32>> {
        let factors = object.f32s(key)?;
        if factors.len() != pairs {
            return Err(object.error(key, format!("expected {pairs} numbers, found {}", factors.len())));
        }
        Ok(powers(base.dims, base.theta as f32).zip(factors).map(|(power, factor)| 1.0 / (factor * power)).collect())
    };
    let original = base.original as f64;
    let factor = object.opt_f64("factor")?.unwrap_or(base.length as f64 / original);
    let attention_factor = match object.opt_f64("attention_factor")? {
        Some(given) => given,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / original.ln()).sqrt(),
    };
    Ok((
        Scaling::LongRope { short: set("short_factor")?, long: set("long_factor")?, original: base.original },
        attention_factor,
    ))
}
