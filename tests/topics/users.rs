pub fn subscribe_as_another(_stage: &super::common::role::Stage) {}
