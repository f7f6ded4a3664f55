/** `octavo/cluster`: the verbs as typed functions, launchers, the control plane, studies. */
export * from "./verbs.ts";
export * from "./weights.ts";
export { doctor, formatFindings, type Finding } from "./cli/doctor.ts";
export { localLauncher, type LocalOptions } from "./launcher/local.ts";
export { clusterLauncher, type ClusterLauncher } from "./launcher/cluster.ts";
export { loadClusterFile, type ClusterDescription } from "./launcher/cluster-file.ts";
export { startCoordinator, type Coordinator, type CoordinatorOptions } from "./control/coordinator.ts";
export { connectCoordinator, type CoordinatorClient } from "./control/client.ts";
export { startAgent, type Agent, type AgentOptions } from "./agent/agent.ts";
export { loadStudy, type Arm, type Study } from "./study/study-file.ts";
export { studyArms, type Change, type StudyArm } from "./study/arms.ts";
export { runStudy, type FinishedRun, type StudyEvent, type StudyOptions, type TrainOne } from "./study/run-study.ts";
export { formatReport, type ArmSummary, type StudyReport } from "./study/report.ts";
export { isSequence, loadSequence, type Sequence, type SequenceStage } from "./sequence/sequence-file.ts";
export { checkSequence, formatSequence, type CheckedSequence, type CheckedStage } from "./sequence/check-sequence.ts";
export { runSequence, type FinishedStage, type SequenceEvent, type SequenceOptions, type TrainStage } from "./sequence/run-sequence.ts";
export { formatSummary, type SequenceSummary } from "./sequence/summary.ts";
export { main } from "./cli/run.ts";
