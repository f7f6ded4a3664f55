import { formatDims, kinds, type Plugin, type Ports } from "../../runtime/index.ts";

/** Ports with default options, or why they cannot be told: some plugins have options without a default. */
function portsOf(plugin: Plugin): Ports | undefined {
  const options = plugin.options.safeParse({});
  return options.success ? plugin.ports(options.data) : undefined;
}

export function pluginEvents(plugins: readonly Plugin[]): { event: string }[] {
  return plugins.map((plugin) => ({ event: "plugin", kind: plugin.kind, name: plugin.name, id: plugin.id, version: plugin.version, about: plugin.about, ports: portsOf(plugin) ?? null }));
}

export function formatPlugins(plugins: readonly Plugin[]): string {
  return kinds.filter((kind) => plugins.some((plugin) => plugin.kind === kind)).map((kind) =>
    [kind, ...plugins.filter((plugin) => plugin.kind === kind).flatMap(describe)].join("\n")).join("\n\n");
}

function describe(plugin: Plugin): string[] {
  const ports = portsOf(plugin);
  const list = (side: Ports["in"]): string => Object.entries(side).map(([name, port]) => `${name}${port.optional ? "?" : ""} ${port.dtype} ${formatDims(port.dims)}`).join(", ");
  const lines = ports ? [["in", list(ports.in)], ["out", list(ports.out)]].filter(([, text]) => text).map(([side, text]) => `      ${side.padEnd(3)} ${text}`) : ["      ports depend on options without a default"];
  return [`  ${plugin.id} ${plugin.version}${plugin.about ? `  ${plugin.about}` : ""}`, ...lines];
}
