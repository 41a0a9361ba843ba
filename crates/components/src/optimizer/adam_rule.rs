//! What Adam and AdamW share: all but where the weight decay goes.

use anyhow::Result;
use pipe_native::optim::{Adam, AdamState, Amp, adam_step, adamw_step};

use super::stepper::{Part, Rule, Slot};
use pipe_core::Problems;

/// Adam's settings by option.
pub(super) const BETA1: &str = "betas[0]";
pub(super) const BETA2: &str = "betas[1]";
pub(super) const EPS: &str = "eps";

/// Defines the configuration of Adam or AdamW, and builds it.
macro_rules! adam_config {
    (
        $(#[$outer:meta])*
        $name:ident, decoupled: $decoupled:literal, $(#[$decay:meta])* weight_decay
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The model whose parameters are changed.
            pub model: Ref<dyn Model>,
            /// Learning rate.
            #[serde(default = "adam_rule::default_lr")]
            #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
            pub lr: f64,
            /// Decay rates of the two moments.
            #[serde(default = "adam_rule::default_betas")]
            #[schemars(extend("x-reload" = "hot"))]
            pub betas: [f64; 2],
            /// Added to the denominator.
            #[serde(default = "adam_rule::default_eps")]
            #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
            pub eps: f64,
            $(#[$decay])*
            #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
            pub weight_decay: f64,
            /// Divide by the largest second moment so far (Reddi et al. 2018).
            #[serde(default)]
            #[schemars(extend("x-reload" = "hot"))]
            pub amsgrad: bool,
            /// Parameters with settings of their own. The first table whose `match` fits takes a parameter.
            #[serde(default)]
            #[schemars(extend("x-reload" = "hot"))]
            pub groups: Vec<GroupConfig>,
            /// Parameters without weight decay, in every group: patterns such as `*.bias`, and `norm` for the weights and biases
            /// of normalisation layers.
            #[serde(default)]
            #[schemars(extend("x-reload" = "hot"))]
            pub no_weight_decay: Vec<String>,
        }

        impl Component for $name {
            fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
                let settings = Settings {
                    lr: self.lr,
                    weight_decay: self.weight_decay,
                    others: &[(BETA1, self.betas[0]), (BETA2, self.betas[1]), (EPS, self.eps)],
                    groups: &self.groups,
                    no_weight_decay: &self.no_weight_decay,
                };
                let rule = AdamRule::<$decoupled> { amsgrad: self.amsgrad };
                Stepper::build(ctx, &self.model, &settings, rule)
            }
        }

        pipe_core::register!($name);
    };
}

pub(super) use adam_config;

pub(super) fn default_lr() -> f64 {
    1e-3
}

pub(super) fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

pub(super) fn default_eps() -> f64 {
    1e-8
}

/// Checks that decay rates are valid.
pub(super) fn check_betas(betas: [f64; 2], problems: &mut Problems) {
    if let Some(beta) = betas.into_iter().find(|beta| !(0.0..1.0).contains(beta)) {
        problems.at("betas", format!("{beta} is not a valid decay rate"), "use two numbers in [0, 1)");
    }
}

/// Adam's update; `DECOUPLED` weight decay makes it AdamW's.
pub(super) struct AdamRule<const DECOUPLED: bool> {
    pub amsgrad: bool,
}

impl<const DECOUPLED: bool> Rule for AdamRule<DECOUPLED> {
    const TYPE: &'static str = if DECOUPLED { "adamw" } else { "adam" };

    fn slots(&self) -> Vec<(&'static str, Slot)> {
        let mut slots =
            vec![("step", Slot::Count), ("exp_avg", Slot::LikeParameter), ("exp_avg_sq", Slot::LikeParameter)];
        if self.amsgrad {
            slots.push(("max_exp_avg_sq", Slot::LikeParameter));
        }
        slots
    }

    fn update(&self, part: &Part<'_>, amp: Amp<'_>) -> Result<()> {
        let setting = |name| part.group.value(name).unwrap_or(0.0);
        let adam = Adam {
            lr: part.group.lr(),
            betas: (setting(BETA1), setting(BETA2)),
            eps: setting(EPS),
            weight_decay: setting("weight_decay"),
            amsgrad: self.amsgrad,
            maximize: false,
        };
        let state = AdamState {
            steps: &part.slots[0],
            exp_avgs: &part.slots[1],
            exp_avg_sqs: &part.slots[2],
            max_exp_avg_sqs: part.slots.get(3).map_or(&[], Vec::as_slice),
        };
        let step = if DECOUPLED { adamw_step } else { adam_step };
        step(part.params, part.grads, state, &adam, amp)
    }
}
