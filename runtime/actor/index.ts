export { type ActorContext, type ActorDefinition, type CallOptions, type CastOptions, type InitContext, type Ref, type RefOf, defineActor, withAttachments } from "./definition.ts";
export { type Mesh, mesh } from "./mesh.ts";
export { type RestartIntensity, type Supervisor, type SupervisorOptions, createSupervisor } from "./supervisor.ts";
export { type ActorSystem, type ActorSystemOptions, type DownNotice, type SpawnOptions, type UnhandledFailure, createActorSystem } from "./system.ts";
