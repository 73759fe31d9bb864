pub fn publish(_stage: &super::common::role::Stage) {}
pub fn subscribe(_stage: &super::common::role::Stage) {}
