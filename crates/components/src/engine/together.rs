//! Training of several ranks: their gradients and losses as one.

use anyhow::Result;
use indexmap::IndexMap;
use pipe_core::{Optimizer, RunContext};
use pipe_data::Batch;
use pipe_native::distributed::Reducer;
use pipe_vision::divisors::Divisor;
use tch::Tensor;

/// The losses of a step, by name, the total last.
pub type Named = Vec<(String, f64)>;

/// Does nothing in a run of one process.
#[derive(Default)]
pub struct Together {
    reducer: Option<Reducer>,
    /// Whether what backward makes is being sent.
    armed: bool,
    /// The names of the losses, for a step in which this rank has none.
    names: Vec<String>,
}

/// The losses over the whole batch, and what is to be said where they are not finite.
pub struct Losses {
    /// By name, the total last.
    pub all: Named,
    /// Which are not finite.
    pub bad: Option<String>,
}

impl Together {
    /// From now on backward sends the gradients of what the optimizer holds.
    pub fn arm(&mut self, optimizer: &dyn Optimizer, run: &RunContext) -> Result<()> {
        if let Some(reducer) = self.of(optimizer, run)? {
            reducer.arm()?;
            self.armed = true;
        }
        Ok(())
    }

    /// Waits for the gradients of all ranks; without `use_them` they are thrown away.
    pub fn finish(&mut self, use_them: bool, run: &RunContext) -> Result<()> {
        match &self.reducer {
            Some(reducer) if std::mem::take(&mut self.armed) => {
                reducer.finish(use_them).map_err(|error| run.ranks.explained(error))
            }
            _ => Ok(()),
        }
    }

    /// Has each loss that is divided by a count, `own`, divided by that of all ranks: with the shares that gradients have, their sum is the loss of the
    /// whole batch. A rank without losses goes along.
    pub fn by_all(
        &self,
        losses: &mut IndexMap<String, Tensor>,
        own: &[(String, Divisor)],
        run: &RunContext,
    ) -> Result<()> {
        let of = |name: &String| own.iter().find(|(told, _)| told == name).map(|(_, divisor)| divisor);
        let own: Vec<f64> = losses.keys().map(|name| of(name).map_or(0.0, Divisor::count)).collect();
        let all = run.ranks.summed(&own)?;
        let share = run.ranks.share();
        for ((name, loss), (own, all)) in losses.iter_mut().zip(own.into_iter().zip(all)) {
            // One that is not told of is a mean over images, or of nothing.
            if let Some(divisor) = of(name) {
                *loss = &*loss * (divisor.of(own) / (share * divisor.of(all)));
            }
        }
        Ok(())
    }

    /// The losses of all ranks, of which these are this one's, on this batch.
    pub fn losses(&mut self, own: Named, batch: &Batch, run: &RunContext) -> Result<Losses> {
        let (names, values): (Vec<String>, Vec<f64>) = own.into_iter().unzip();
        let bad: Vec<String> = (names.iter().zip(&values))
            .filter(|(_, loss)| !loss.is_finite())
            .map(|(name, loss)| format!("{name} = {loss}"))
            .collect();
        let own_bad = || format!("a loss is not finite ({}) on {}", bad.join(", "), batch.sources().join(", "));
        let bad = (!bad.is_empty()).then(own_bad);
        self.names = names;
        let agreed = self.agreed(&values, run)?;
        Ok(Losses { bad: bad.or(agreed.bad), ..agreed })
    }

    /// The losses of the others in a step in which this rank has none.
    pub fn losses_of_others(&mut self, run: &RunContext) -> Result<Losses> {
        self.agreed(&[], run)
    }

    fn agreed(&self, own: &[f64], run: &RunContext) -> Result<Losses> {
        let agreed = run.agree(own)?;
        let others = agreed.non_finite.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let bad =
            (!others.is_empty()).then(|| format!("a loss is not finite on rank {others}, whose log has the samples"));
        let last = agreed.losses.len().saturating_sub(1);
        let unnamed = |place: usize| if place == last { "total_loss".to_owned() } else { format!("loss_{place}") };
        let named = |(place, loss)| (self.names.get(place).cloned().unwrap_or_else(|| unnamed(place)), loss);
        Ok(Losses { all: agreed.losses.into_iter().enumerate().map(named).collect(), bad })
    }

    /// The reducer of what the optimizer trains now; none in a run of one process.
    fn of(&mut self, optimizer: &dyn Optimizer, run: &RunContext) -> Result<Option<&Reducer>> {
        if run.ranks.is_alone() {
            return Ok(None);
        }
        let all = optimizer.groups().iter().flat_map(|group| &group.params);
        let trained: Vec<Tensor> = all.filter(|param| param.requires_grad()).map(Tensor::shallow_clone).collect();
        if !self.reducer.as_ref().is_some_and(|reducer| reducer.is_of(&trained)) {
            self.reducer = run.ranks.reducer(&trained)?;
        }
        Ok(self.reducer.as_ref())
    }
}
