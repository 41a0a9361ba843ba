//! Parameters that are held still for a part of a run.

use std::cell::RefCell;

use pipe_vocab::NodeId;
use tch::Tensor;

/// Who holds which parameters. One that anybody holds gets no gradient, so optimizers leave it as it is; they know it all the while.
#[derive(Debug, Default)]
pub struct Frozen(RefCell<Vec<Hold>>);

#[derive(Debug)]
struct Hold {
    by: NodeId,
    parameters: Vec<Tensor>,
}

impl Frozen {
    /// From now on `by` holds these parameters, in place of those before.
    pub fn hold(&self, by: &NodeId, parameters: Vec<Tensor>) {
        self.release(by);
        self.0.borrow_mut().push(Hold { by: by.clone(), parameters });
        self.set(false);
    }

    /// `by` holds nothing any more; what nobody else holds is trained again.
    pub fn release(&self, by: &NodeId) {
        let former: Vec<Hold> = self.0.borrow_mut().extract_if(.., |hold| hold.by == *by).collect();
        former.iter().flat_map(|hold| &hold.parameters).for_each(|parameter| trained(parameter, true));
        self.set(false);
    }

    /// Lets go of everything for a while, to learn how much memory training may need; or takes hold of it again.
    pub fn lift(&self, on: bool) {
        self.set(on);
    }

    fn set(&self, on: bool) {
        self.0.borrow().iter().flat_map(|hold| &hold.parameters).for_each(|parameter| trained(parameter, on));
    }
}

fn trained(parameter: &Tensor, on: bool) {
    let _same = parameter.set_requires_grad(on);
}
