import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { keepAnswer } from '../../../src/machine/accelerator.ts'
import { readBootId } from '../../../src/node/system.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { endProcesses, type RunningProcess, start } from '../../tools/processes.ts'
import { waitUntil } from '../../tools/wait.ts'
import { DaemonDouble, ROWAN } from './daemon-double.ts'

const ATTACHED = {
  machine: 'grid',
  appliance: '12D3KooWAbcdefghijklmnop/grid',
  version: 'v1',
  image: 'a'.repeat(64),
  size: 4096,
  uri: 'nbd+unix:///grid?socket=/x',
  readOnly: false,
  clients: 0,
  created: true
}

let daemon: DaemonDouble
let tools: string

beforeEach(async () => {
  tools = await temporaryFolder()
  daemon = await DaemonDouble.start({
    status: async () => ({ machines: [{ name: 'old' }] }),
    attach: async params => {
      const { machine } = params as { machine: string }
      if (machine === 'broken') throw new RowanError('LAYER_CORRUPT', 'its layer is cut short')
      if (machine.startsWith('busy')) return { ...ATTACHED, machine, clients: 1, readOnly: machine === 'busy-readers' }
      return { ...ATTACHED, machine, created: machine !== 'old' }
    }
  })
})

afterEach(async () => {
  await endProcesses()
  await endQemu()
  await daemon.stop()
  await removeFolders()
})

/** A program in QEMU's place, first on the PATH: what is tested is how it is called and what becomes of its end. */
async function qemuIs(script: string): Promise<NodeJS.ProcessEnv> {
  const file = join(tools, 'qemu-system-x86_64')
  await writeFile(file, `#!/bin/sh\necho $$ > ${tools}/pid\nprintf '%s\\n' "$@" > ${tools}/args\n${script}\n`)
  await chmod(file, 0o755)
  // what stands in for QEMU is no machine to be tried out
  await keepAnswer({ file: join(daemon.home, 'accelerator.json'), bootId: readBootId(), qemu: file }, false)
  return { ...process.env, PATH: `${tools}${delimiter}${process.env.PATH}` }
}

/** When a test fails, what stands in for QEMU may have been left behind. */
async function endQemu(): Promise<void> {
  const pid = await readFile(join(tools, 'pid'), 'utf8').catch(() => undefined)
  if (pid === undefined) return
  const commandLine = await readFile(`/proc/${pid.trim()}/cmdline`, 'utf8').catch(() => '')
  if (commandLine.includes(tools)) process.kill(Number(pid), 'SIGKILL')
}

/** A `rowan run` whose guest waits for its network, which does not come. */
async function beingPrepared(env: NodeJS.ProcessEnv): Promise<{ child: RunningProcess; temporary: string }> {
  const temporary = join(tools, 'tmp')
  await mkdir(temporary)
  await writeFile(join(tools, 'passt'), '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 })
  const child = start(ROWAN, ['run', 'old', '--net', 'user', '--home', daemon.home], {
    env: { ...env, TMPDIR: temporary }
  })
  await waitUntil('its network', async () => (await readdir(temporary)).some(name => name.startsWith('rowan-net-')))
  return { child, temporary }
}

const args = async () => (await readFile(join(tools, 'args'), 'utf8')).trimEnd().split('\n')

test('attaches, boots, and answers when the guest is gone; its console is not in the way of the JSON', async () => {
  const env = await qemuIs('echo login:; cat')
  const result = await daemon.rowan(['run', 'grid', '--json', '--', '-m', '2048'], { env, input: 'typed\n' })
  expect(result.status, result.stderr).toBe(0)
  const answer = JSON.parse(result.stdout)
  expect(answer).toEqual({ ...ATTACHED, exit: 0, seconds: expect.any(Number) })
  expect(answer.seconds).toBeGreaterThan(0)
  expect(result.stderr).toContain('login:\ntyped\n')
  expect(daemon.asked.at(-1)).toEqual(['attach', { machine: 'grid', appliance: 'grid', allowExpired: false }])
  expect((await args()).slice(-2)).toEqual(['-m', '2048'])
  expect(await args()).toContain('none')
  expect((await args()).join(' ')).toContain('"path":"/x"')
})

test('without --json the console is stdin and stdout', async () => {
  const env = await qemuIs('cat')
  const result = await daemon.rowan(['run', 'grid'], { env, input: 'typed\n' })
  expect(result.stdout).toMatch(/^typed\nthe guest of grid left after /)
  expect(result.stderr).toContain('new machine grid of 12D3KooWAbcd…/grid@v1')
})

test('a machine that exists is meant before an appliance; --as makes a machine of another name', async () => {
  const env = await qemuIs('exit 0')
  await daemon.rowan(['run', 'old'], { env })
  expect(daemon.asked.at(-1)).toEqual(['attach', { machine: 'old', allowExpired: false }])
  await daemon.rowan(['run', '12D3KooWAb/grid:testing', '--allow-expired'], { env })
  expect(daemon.asked.at(-1)).toMatchObject([
    'attach',
    { machine: 'grid', appliance: '12D3KooWAb/grid:testing', allowExpired: true }
  ])
  await daemon.rowan(['run', 'old', '--as', 'new'], { env })
  expect(daemon.asked.at(-1)).toMatchObject(['attach', { machine: 'new', appliance: 'old' }])
})

test('the status of QEMU is told, and fails the command', async () => {
  const env = await qemuIs('exit 3')
  const result = await daemon.rowan(['run', 'old', '--json'], { env })
  expect(result.status).toBe(1)
  expect(JSON.parse(result.stdout)).toMatchObject({ exit: 3 })
})

test.each(['SIGTERM', 'SIGINT'] as const)('%s is passed on, and the end of the guest is waited for', async signal => {
  const env = await qemuIs(`trap 'echo bye; exit 0' TERM INT; echo up; while :; do sleep 0.05; done`)
  const child = start(ROWAN, ['run', 'old', '--json', '--home', daemon.home], { env })
  await child.waitForOutput(/up/, { from: 'stderr' })
  child.kill(signal)
  expect((await child.exited).status).toBe(0)
  expect(child.stderr).toContain('bye')
  expect(JSON.parse(child.stdout)).toMatchObject({ exit: 0 })
})

test('a second signal ends a guest that does not leave by itself', async () => {
  const env = await qemuIs(`trap 'echo not yet' TERM; echo up; while :; do sleep 0.05; done`)
  const child = start(ROWAN, ['run', 'old', '--json', '--home', daemon.home], { env })
  await child.waitForOutput(/up/, { from: 'stderr' })
  child.kill('SIGTERM')
  await child.waitForOutput(/not yet/, { from: 'stderr' })
  child.kill('SIGTERM')
  expect((await child.exited).status).toBe(1)
  expect(JSON.parse(child.stdout)).toMatchObject({ exit: 128 + 9 })
})

test('a guest outlives the daemon', async () => {
  const env = await qemuIs('echo up; cat')
  const child = start(ROWAN, ['run', 'old', '--json', '--home', daemon.home], { env })
  await child.waitForOutput(/up/, { from: 'stderr' })
  await daemon.stop()
  child.child.stdin!.write('still there\n')
  await waitUntil('the echo', () => child.stderr.includes('still there'))
  child.child.stdin!.end()
  expect((await child.exited).status).toBe(0)
})

test('--verbose shows the line, and options that open the guest are named', async () => {
  const env = await qemuIs('exit 0')
  const result = await daemon.rowan(['run', 'old', '--verbose', '--', '-nic', 'user'], { env })
  expect(result.stderr).toMatch(/^qemu-system-x86_64 -nodefaults .* -nic user$/m)
  expect(result.stderr).toContain('note: -nic may open the guest')
})

test('no QEMU: the package is named', async () => {
  await mkdir(join(tools, 'none'))
  const node = join(ROWAN, '../../node_modules/.bin/node')
  const child = start(node, [`${ROWAN}.ts`, 'run', 'old', '--home', daemon.home], {
    env: { ...process.env, PATH: join(tools, 'none') }
  })
  expect((await child.exited).status).toBe(1)
  expect(child.stderr).toMatch(/package qemu-system-x86 \[TOOL_MISSING\]/)
})

test('a machine that cannot be attached is not started', async () => {
  const env = await qemuIs('exit 0')
  const result = await daemon.rowan(['run', 'grid', '--as', 'broken'], { env })
  expect(result.status).toBe(1)
  expect(result.stderr).toContain('[LAYER_CORRUPT]')
  await expect(args()).rejects.toThrow()
})

test('a machine whose disk somebody writes to is not booted a second time', async () => {
  const env = await qemuIs('exit 0')
  const result = await daemon.rowan(['run', 'grid', '--as', 'busy'], { env })
  expect(result.status).toBe(1)
  expect(result.stderr).toMatch(/^error: busy has a client at its disk already, .* \[MACHINE_RUNNING\]$/m)
  await expect(args()).rejects.toThrow()
  expect((await daemon.rowan(['run', 'grid', '--as', 'busy-readers'], { env })).status).toBe(0)
})

test('a machine whose guest is being prepared is not started a second time, and is free when that has ended', async () => {
  const env = await qemuIs('exit 0')
  const { child: first } = await beingPrepared(env)
  const second = await daemon.rowan(['run', 'old'], { env })
  expect(second.status).toBe(1)
  expect(second.stderr).toMatch(/^error: another `rowan run` has old, or is about to \[MACHINE_RUNNING\]$/m)
  await expect(args()).rejects.toThrow()
  // Another machine has nothing to do with it, nor has one without a guest that writes.
  expect((await daemon.rowan(['run', 'grid'], { env })).status).toBe(0)
  first.kill('SIGTERM')
  await first.exited
  expect((await daemon.rowan(['run', 'old'], { env })).status).toBe(0)
})

test('a QEMU that cannot be started is said in one line, without a stack', async () => {
  const env = await qemuIs('exit 0')
  await chmod(join(tools, 'qemu-system-x86_64'), 0o644)
  const node = join(ROWAN, '../../node_modules/.bin/node')
  const child = start(node, [`${ROWAN}.ts`, 'run', 'old', '--home', daemon.home], { env: { ...env, PATH: tools } })
  expect((await child.exited).status).toBe(1)
  expect(child.stderr).toMatch(/^error: qemu-system-x86_64 cannot be started: .*EACCES.* \[TOOL_MISSING\]$/m)
  expect(child.stderr).not.toMatch(/^ +at /m)
})

test('a signal that comes before there is a guest leaves nothing of what was made for it', async () => {
  const { child, temporary } = await beingPrepared(await qemuIs('exit 0'))
  child.kill('SIGTERM')
  expect((await child.exited).status).toBe(1)
  expect(child.stderr).toMatch(/^error: SIGTERM came before there was a guest \[ABORTED\]$/m)
  expect(await readdir(temporary)).toEqual([])
  await expect(args()).rejects.toThrow()
})
