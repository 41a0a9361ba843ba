//! The table of all rules.

use pipe_document::diagnostic::Severity;

use super::rule::{Phase, Rule};
use super::{
    batches, evaluation, labels, learning, models, normalization, reach, schedules, secrets, tags, unused, watching,
};

/// The code of the warning about a name in `[checks] allow` that lets nothing pass.
pub(crate) const UNUSED_ALLOW: &str = "unused-allow";

/// The rule about tokens in the text, which are not shown.
pub const SECRET_IN_FILE: &str = "secret-in-file";

/// The rule about labels that mean two classes.
pub(crate) const CLASS_NAMES_DIFFER: &str = "class-names-differ";

/// Whether a code is that of a finding of a rule.
pub fn is_rule(code: &str) -> bool {
    code == UNUSED_ALLOW || RULES.iter().any(|rule| rule.name == code)
}

/// One rule a line of the list: name, severity, phase, what checks it, what it finds, why that matters.
macro_rules! rules {
    ($($name:literal $severity:ident $phase:ident $check:path: $about:literal, $why:literal;)*) => {
        /// All rules, by topic.
        pub static RULES: &[Rule] = &[$(Rule {
            name: $name,
            severity: Severity::$severity,
            phase: Phase::$phase,
            about: $about,
            why: $why,
            check: $check,
        },)*];
    };
}

rules! {
    "no-engine" Warning Graph unused::no_engine:
        "a pipeline without an engine",
        "There is nothing to run.";
    "unused-node" Warning Graph unused::unused:
        "a node that nothing uses, a handler that nothing calls, a scheduler that nothing steps",
        "What was written was meant to do something. A scheduler that nothing steps leaves the learning rate as it is.";
    "never-fires" Warning Graph reach::never_fires:
        "an `[[on]]` whose filter lets nothing through before its engine ends",
        "Its targets never run.";
    "two-optimizers" Warning Graph unused::two_optimizers:
        "two optimizers that change the weights of one model",
        "Each step of one undoes what the other's momentum expects. Parameter groups give parts of a model settings of their own.";

    "training-data-evaluated" Warning Graph evaluation::of_training_data:
        "a model whose every evaluation reads the data that it is trained on",
        "The numbers say how well the model remembers, not how well it works. An evaluation of training data beside one of other \
         data is fine.";
    "shared-images" Warning Data evaluation::shared_images:
        "images that are both trained on and evaluated, by whatever ways the datasets lead to them",
        "The numbers are better than the model is. A list of files that was split wrongly, one folder inside the other, a link.";
    "unshuffled-training" Warning Graph evaluation::unshuffled:
        "a training whose loader does not shuffle",
        "Data are mostly stored class by class or scene by scene: batches of alike samples give gradients that pull in turn, and \
         batch norm wrong statistics.";
    "shuffled-evaluation" Warning Graph evaluation::shuffled:
        "an evaluation of a whole dataset in random order",
        "It has no use, and mostly comes from a copied loader. Debug images are of other samples each time.";
    "augmented-validation" Warning Graph evaluation::augmented:
        "an evaluation of images that a transform changes at random",
        "The numbers are those of a harder task, and noisy, so that the best checkpoint is a matter of luck.";
    "incomplete-evaluation" Warning Graph evaluation::incomplete:
        "an evaluation under options that leave samples out",
        "Numbers over a part of the data cannot be compared with those of others. Images without objects count, too: false \
         detections there lower the precision.";
    "metric-of-other-data" Error Graph evaluation::of_other_data:
        "a metric that compares with another dataset than its engine evaluates on",
        "Predictions are compared with the objects of other images.";
    "evaluated-too-early" Warning Graph evaluation::too_early:
        "a model whose only evaluation comes before its training",
        "Engines that no event runs follow each other in the order of the file, so the numbers are those of random weights.";

    "double-normalization" Warning Graph normalization::twice:
        "images that are normalized twice, by two steps or by a step and by the model",
        "Detectors normalize images themselves. Pixels that are normalized twice are nothing like those that pretrained weights \
         were trained with; with such weights it is an error.";
    "unusual-normalization" Warning Graph normalization::unusual:
        "means and standard deviations that cannot be those of pixels between 0 and 1",
        "Numbers for pixels up to 255, or `mean` and `std` swapped: the model sees images that are all alike.";
    "missing-normalization" Warning Graph normalization::missing:
        "a classifier with torchvision's weights whose images are not normalized",
        "The weights were trained on normalized images, and features of others are poor. Fine-tuning hides it, at the cost of \
         accuracy.";
    "normalization-differs" Error Graph normalization::differs:
        "an evaluation that normalizes images otherwise than the training",
        "The model sees images as it never saw them, and the numbers are wrong.";

    "late-schedule" Warning Both schedules::never_reached:
        "a scheduler whose changes or end come after the last step of the run",
        "Mostly iterations were meant and epochs are counted, or the run was made shorter. The learning rate stays too high to the \
         end.";
    "early-schedule" Warning Both schedules::ends_early:
        "a run that goes on behind the end of a schedule that then turns back or has almost no rate left",
        "Behind `t_max`, cosine annealing goes back up, and what was learned is lost; one-cycle and polynomial schedules learn \
         nothing more.";
    "endless-warm-up" Warning Both schedules::warm_up:
        "a warm-up that is longer than the run",
        "The model is trained at a fraction of the learning rate that was set.";
    "growing-schedule" Warning Graph schedules::grows:
        "a step, multistep or exponential schedule with a factor above 1",
        "The learning rate rises until the weights run away.";
    "large-learning-rate" Warning Graph learning::rate:
        "a learning rate of 0.1 or more with an adaptive optimizer, of 20 or more with another",
        "Adam moves each weight by about the learning rate at every step, whatever its gradient: weights are mostly smaller than that. \
         Rates of SGD do not carry over.";
    "adam-weight-decay" Warning Graph learning::weight_decay:
        "weight decay with `adam`",
        "Adam divides it by each weight's gradient size, so weights with large gradients are hardly decayed (Loshchilov & Hutter \
         2019). `adamw` decays all alike.";
    "optimizer-of-another-model" Error Graph learning::of_another_model:
        "an engine whose optimizer changes another model than the engine trains",
        "The model is computed and never changes.";
    "batch-norm-of-one" Warning Graph learning::batch_norm:
        "training with batch norm and a batch size of 1",
        "Mean and variance of one image are noise, and the running statistics are not those that training used.";
    "unsaved-training" Warning Graph learning::unsaved:
        "a training without a checkpoint",
        "When the run ends, the weights are gone.";

    "wrong-mode" Error Graph watching::mode:
        "a `mode` that takes the worse values for the better",
        "The worst checkpoint is kept as the best, or training stops as soon as it improves.";
    "stale-value" Warning Graph watching::stale:
        "a patience that is counted per iteration, over a value that is computed per evaluation",
        "The same value counts as one without an improvement many times, so training stops within the first epoch.";
    "endless-patience" Warning Both watching::patience:
        "a patience that is longer than the run",
        "The handler or scheduler never acts.";
    "every-iteration" Warning Graph watching::costly:
        "an evaluation, a checkpoint or images after every iteration of a training",
        "The run spends its time on them, and its folder fills up.";
    "average-not-evaluated" Warning Graph models::average_not_evaluated:
        "an average of weights that is kept while only the plain model is evaluated",
        "The average is what works better; which checkpoint of it is the best is never found out.";
    "average-not-updated" Error Graph models::average_not_updated:
        "an evaluation of an average of weights that nothing updates",
        "The numbers are those of the weights before the training.";
    "untrained-model" Warning Graph models::untrained:
        "an evaluation of a model that nothing trains and that has no weights, beside a training of another",
        "The numbers are those of random weights.";
    "shared-tag" Warning Graph tags::shared:
        "two engines that run within one engine and record under one tag",
        "One chart shows both, as one zigzag line.";
    "mirrored-digits" Warning Graph labels::mirrored:
        "flips of digits",
        "A mirrored 2 is no 2, and a 6 upside down is a 9: the model learns from wrong labels.";
    "secret-in-file" Warning Graph secrets::plain:
        "a token of a well-known service in the text of the pipeline",
        "Pipelines are shared and kept in repositories and in the folders of runs.";

    "too-few-classes" Error Data labels::too_few:
        "a model with fewer outputs than the data have labels",
        "Training fails at the first batch with such a label, which may come late.";
    "class-names-differ" Error Data labels::names_differ:
        "one label that means different classes in training and evaluation",
        "Right predictions count as wrong. A folder of images that lacks one class numbers all others anew.";
    "class-not-trained" Warning Data labels::not_trained:
        "a class of the evaluation without any object in the training data",
        "Its score is 0 whatever the model does, which lowers the average. Mostly a split went wrong.";
    "mirrored-sides" Warning Data labels::sides:
        "flips where classes tell left from right",
        "A mirrored left hand has the label of a left hand and looks like a right one.";
    "small-objects" Warning Data labels::small:
        "training data most of whose objects are smaller than the anchors can find",
        "An anchor is trained on objects that it overlaps well; smaller ones are mostly taken for background.";
    "boxes-outside" Warning Data labels::outside:
        "annotations more than a tenth of whose boxes reach out of their images",
        "Mostly they are written as two corners where a corner and a size belong, or are for images of another size. Training \
         clips them and learns the wrong ones.";
    "batch-larger-than-data" Warning Data batches::larger_than_dataset:
        "a batch size above the number of training samples",
        "Each epoch is one step, so the run makes far fewer steps than its epochs suggest.";
    "accumulation-too-long" Warning Both batches::accumulated:
        "gradients that are accumulated over more batches than an epoch has",
        "The epoch ends before the step is full, so the batch size of a step is another than was meant.";
    "many-left-out" Warning Data batches::left_out:
        "a training that drops incomplete batches and with them more than a quarter of the samples",
        "With little data it is worth more than full batches.";
}
