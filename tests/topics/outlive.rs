pub fn publish_on(_stage: &super::common::role::Stage) {}
pub fn subscribe_on(_stage: &super::common::role::Stage) {}
