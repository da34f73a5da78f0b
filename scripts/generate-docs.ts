/**
 * Writes docs/CONFIG.md and docs/ERRORS.md from the tables in the code, and docs/COMMANDS.md from what `--help` says:
 * `node scripts/generate-docs.ts`.
 *
 * test/unit/node/docs.test.ts fails when the files and the tables differ.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { build } from '../bin/program.ts'
import { Session } from '../bin/session.ts'
import { ERRORS, type ErrorCode, errorKind } from '../src/errors.ts'
import { DEFAULTS, type Setting } from '../src/node/settings-table.ts'

const KINDS: Partial<Record<Setting['kind'], string>> = {
  duration: 'duration',
  size: 'size',
  rate: 'rate',
  list: 'list of texts',
  flag: '`true` or `false`'
}

/** docs/CONFIG.md. */
export function configPage(): string {
  const sections = Object.entries(DEFAULTS as Record<string, Record<string, Setting>>).map(([section, settings]) => {
    const rows = Object.entries(settings).map(([name, setting]) => {
      const { meaning, caveat = '' } = setting
      return `| \`${name}\` | ${typeOf(setting)} | \`${JSON.stringify(setting.default)}\` | ${meaning} | ${caveat} |`
    })
    return `## [${section}]\n\n| name | type | default | meaning | caveat |\n|---|---|---|---|---|\n${rows.join('\n')}\n`
  })
  return `# Settings

Made from \`src/node/settings-table.ts\` by \`node scripts/generate-docs.ts\`; do not edit.

Settings live in \`config.toml\` in the home, or in the file that \`rowan up --config FILE\` names; they are read when \`rowan up\`
starts. Each has a default, so the file need not exist. A key that is not listed here, a value of another type or a missing
unit is an error (\`CONFIG_INVALID\`) that names the file and the key.

- A **duration** is written \`"90s"\`, \`"30m"\`, \`"1h30m"\` or \`"7d"\` (units w, d, h, m, s, ms).
- A **size** is written \`"500MB"\`, \`"50GB"\` (powers of ten) or \`"64GiB"\` (powers of two), or \`"unlimited"\`.
- A **rate** is written \`"500kbit"\`, \`"10Mbit"\`, \`"2MB/s"\` (a second), or \`"unlimited"\`.

\`\`\`toml
[network]
listen = ["/ip4/0.0.0.0/tcp/4601"]
bootstrap = ["/ip4/192.0.2.7/tcp/4601/p2p/12D3KooW…"]

[pool]
quota = "20GB"

[swarm]
maxUpload = "5Mbit"
\`\`\`

${sections.join('\n')}`
}

/** docs/ERRORS.md. */
export function errorsPage(): string {
  const rows = (Object.keys(ERRORS) as ErrorCode[]).map(code => {
    const { meaning, advice, exit = 1, nbd = 'EIO' } = errorKind(code)
    return `| \`${code}\` | ${meaning} | ${advice} | ${exit} | ${nbd} |`
  })
  return `# Errors

Made from \`src/errors.ts\` by \`node scripts/generate-docs.ts\`; do not edit.

A command that fails writes \`error: … [CODE]\` to stderr and what to do on the next line; with \`--json\` stdout carries
\`{"error": {"code", "message", "advice"}}\`. Codes are stable: scripts may rely on them; the words of a message may change.
**exit** is the command's exit status: 1 failed, 2 wrong usage. **disk** is what a guest or another NBD client sees should
the failure reach its disk.

| code | meaning | what to do | exit | disk |
|---|---|---|---|---|
${rows.join('\n')}
`
}

function typeOf({ kind, choices, min, max, longest }: Setting): string {
  if (kind === 'choice') return (choices ?? []).map(choice => `\`"${choice}"\``).join(', ')
  if (longest !== undefined) return `duration, ${longest} at most`
  if (kind === 'count') return `whole number, ${min} to ${max}`
  return KINDS[kind] ?? kind
}

const HELP_COLUMNS = 110

/** docs/COMMANDS.md. */
export function commandsPage(): string {
  const program = build(new Session({ json: false, version: '' }))
  const globals = program.options.filter(({ long }) => long !== '--version')
  const commands = program.commands.flatMap(command => [command, ...command.commands])
  return `# Commands

Made from what \`rowan COMMAND --help\` says by \`node scripts/generate-docs.ts\`; do not edit.

Every command takes these options, before or after it:

${globals.map(({ flags, description }) => `- \`${flags}\`: ${description}`).join('\n')}

The exit status is 0 when it is done, 1 when it failed (\`error: … [CODE]\` on stderr, see [ERRORS.md](ERRORS.md)) and 2 for wrong
usage.

${commands.map(command => `## rowan ${nameOf(command)}\n\n\`\`\`text\n${helpOf(command)}\n\`\`\`\n`).join('\n')}`
}

/** Of a command within another both names. */
function nameOf(command: Command): string {
  const above = command.parent?.parent == null ? '' : `${command.parent.name()} `
  return `${above}${command.name()}`
}

function helpOf(command: Command): string {
  let text = ''
  command
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: part => {
        text += part
      },
      getOutHelpWidth: () => HELP_COLUMNS,
      getOutHasColors: () => false
    })
    .outputHelp()
  return text.trim()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(new URL('../docs/CONFIG.md', import.meta.url), configPage())
  writeFileSync(new URL('../docs/ERRORS.md', import.meta.url), errorsPage())
  writeFileSync(new URL('../docs/COMMANDS.md', import.meta.url), commandsPage())
}
