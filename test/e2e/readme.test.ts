/**
 * README's quick start runs as it is printed.
 *
 * Its examples are the `console` blocks: lines that begin with `$ `. A section (`### Publisher`, `### Volunteer`) is one
 * peer. `rowan up` runs until the end; every other command must succeed. `$ADDRESS` and `$PUBLISHER` are what the
 * README says they are; disk.raw is a disk that boots and switches itself off. Only the port numbers are changed, so
 * that the test may run beside anything else.
 */
import { readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { endProcesses, type RunningProcess, run, start } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

/** The commands of each section, in order. */
function examplesOf(readme: string): Map<string, string[]> {
  const sections = new Map<string, string[]>()
  let section = ''
  let inConsole = false
  for (const line of readme.split('\n')) {
    if (line.startsWith('#') && !inConsole) section = line.replace(/^#+ /, '')
    else if (line.startsWith('```')) inConsole = line === '```console'
    else if (inConsole && line.startsWith('$ '))
      sections.set(section, [...(sections.get(section) ?? []), line.slice(2)])
  }
  return sections
}

test('the quick start of the README works as printed', async () => {
  const examples = examplesOf(await readFile(join(ROOT, 'README.md'), 'utf8'))
  expect([...examples.keys()]).toEqual(['Publisher', 'Volunteer'])

  // `npx rowan` works in the checkout; its own folder of work has the disk in it.
  const folder = await temporaryFolder()
  await makeTinyAppliance(join(folder, 'disk.raw'), { powerOff: true })
  for (const name of ['package.json', 'node_modules', 'bin', 'src']) await symlink(join(ROOT, name), join(folder, name))

  const known: NodeJS.ProcessEnv = {}
  for (const [section, commands] of examples) {
    const env = { ...process.env, ...known, ROWAN_HOME: await temporaryFolder() }
    for (const command of commands) {
      const asRun = command.replace(/\/ip4\/0\.0\.0\.0\/tcp\/\d+/, '/ip4/127.0.0.1/tcp/0')
      if (/\browan up\b/.test(command)) {
        const up = start('bash', ['-c', `exec ${asRun}`], {
          name: `${section}: ${command}`,
          cwd: folder,
          env,
          group: true
        })
        Object.assign(known, await whatItPrints(up))
        continue
      }
      const result = await run('bash', ['-c', asRun], { cwd: folder, env, timeoutMs: 120_000 })
      expect(result.status, `${section}: ${command}\n${result.stdout}\n${result.stderr}`).toBe(0)
    }
  }
})

/** The address and the publisher id, read from what `rowan up` prints for a person. */
async function whatItPrints(up: RunningProcess): Promise<{ ADDRESS: string; PUBLISHER: string }> {
  const [address] = await up.waitForOutput(/\/ip4\/127\S+\/tcp\/\d+\/p2p\/\w+/)
  const [, publisher] = await up.waitForOutput(/[Pp]ublisher\W+(?:id\W+)?(12D3KooW\w+)/)
  return { ADDRESS: address, PUBLISHER: publisher ?? '' }
}
