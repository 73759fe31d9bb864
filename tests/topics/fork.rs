pub fn fork_while_publishing(_stage: &super::common::role::Stage) {}
pub fn fork_while_subscribing(_stage: &super::common::role::Stage) {}
