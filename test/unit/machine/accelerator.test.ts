import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { kvmIsFaster } from '../../../src/machine/accelerator.ts'
import { lineLog, systemClock } from '../../../src/node/system.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { describeWithTools } from '../../tools/need.ts'
import { endProcesses, start } from '../../tools/processes.ts'
import { waitUntil } from '../../tools/wait.ts'

let folder: string
const components = { clock: systemClock, log: lineLog('silent') }

beforeEach(async () => {
  folder = await temporaryFolder()
})

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

/** A program in QEMU's place: what it does under each accelerator. It notes how often it was called. */
async function settingsWith(scripts: { kvm: string; tcg: string }, bootId = 'boot-1') {
  const qemu = join(folder, 'qemu')
  const cases = `case "$*" in *"-accel kvm"*) ${scripts.kvm};; *) ${scripts.tcg};; esac`
  await writeFile(qemu, `#!/bin/sh\necho called >> ${folder}/calls\n${cases}\n`)
  await chmod(qemu, 0o755)
  return { file: join(folder, 'accelerator.json'), bootId, qemu }
}

const calls = async () => (await readFile(join(folder, 'calls'), 'utf8')).trimEnd().split('\n').length

test.each([
  ['is used when it does the probe', { kvm: 'exit 1', tcg: 'exit 1' }, true],
  ['is not used when it takes far longer than emulation', { kvm: 'exec sleep 30', tcg: 'exit 1' }, false],
  ['is not used when it fails', { kvm: 'exit 2', tcg: 'exit 1' }, false],
  [
    'is not used when it cannot give the processor that guests get',
    { kvm: 'case "$*" in *"-cpu max"*) kill -ABRT $$;; esac; exit 1', tcg: 'exit 1' },
    false
  ]
])('KVM %s', async (_, scripts, expected) => {
  expect(await kvmIsFaster(components, await settingsWith(scripts))).toBe(expected)
})

test('the answer is kept until the host boots again', async () => {
  const settings = await settingsWith({ kvm: 'exit 1', tcg: 'exit 1' })
  await kvmIsFaster(components, settings)
  expect(await calls()).toBe(2)
  expect(await kvmIsFaster(components, settings)).toBe(true)
  expect(await calls()).toBe(2)
  await kvmIsFaster(components, { ...settings, bootId: 'boot-2' })
  expect(await calls()).toBe(4)
})

test('an answer holds for the QEMU and the arguments that it was found with, and no others', async () => {
  const settings = await settingsWith({ kvm: 'exit 1', tcg: 'exit 1' })
  await kvmIsFaster(components, settings)
  const kept = JSON.parse(await readFile(settings.file, 'utf8'))
  // As earlier builds kept it: nobody knows what it was found with.
  await writeFile(settings.file, JSON.stringify({ bootId: 'boot-1', kvmIsFaster: false }))
  expect(await kvmIsFaster(components, settings)).toBe(true)
  expect(await calls()).toBe(4)
  await writeFile(
    settings.file,
    JSON.stringify({ ...kept, probe: [...kept.probe, '-cpu', 'qemu64'], kvmIsFaster: false })
  )
  expect(await kvmIsFaster(components, settings)).toBe(true)
  expect(await calls()).toBe(6)
  // Another QEMU under the same name, as an upgrade of the package brings it.
  await settingsWith({ kvm: 'exit 2', tcg: 'sleep 0; exit 1' })
  expect(await kvmIsFaster(components, settings)).toBe(false)
  expect(await calls()).toBe(8)
  expect(await kvmIsFaster(components, settings)).toBe(false)
  expect(await calls()).toBe(8)
})

test('the probe leaves nothing behind, also when who tries is killed in the midst of it', async () => {
  const { qemu, file } = await settingsWith({ kvm: 'exit 1', tcg: `echo $$ > ${folder}/pid; exec sleep 30` })
  const source = new URL('../../../src/', import.meta.url)
  const script = join(folder, 'try.ts')
  await writeFile(
    script,
    `import { kvmIsFaster } from '${new URL('machine/accelerator.ts', source)}'
     import { lineLog, systemClock } from '${new URL('node/system.ts', source)}'
     setInterval(() => undefined, 1000)
     await kvmIsFaster({ clock: systemClock, log: lineLog('silent') }, ${JSON.stringify({ file, qemu, bootId: 'b' })})`
  )
  const temporary = join(folder, 'tmp')
  await mkdir(temporary)
  const child = start(process.execPath, [script], { env: { ...process.env, TMPDIR: temporary } })
  const pid = await waitUntil('the probe', () => readFile(join(folder, 'pid'), 'utf8').catch(() => undefined))
  child.kill('SIGKILL')
  await child.exited
  await waitUntil('the end of the probe', () => !existsSync(`/proc/${pid.trim()}`))
  expect(await readdir(temporary)).toEqual([])
})

test('a damaged answer is found out again; one that cannot be kept is given all the same', async () => {
  const settings = await settingsWith({ kvm: 'exit 1', tcg: 'exit 1' })
  await writeFile(settings.file, '{"bootId":')
  expect(await kvmIsFaster(components, settings)).toBe(true)
  expect(await kvmIsFaster(components, { ...settings, file: join(folder, 'no', 'such', 'folder') })).toBe(true)
})

test('without QEMU there is no answer, and none is kept', async () => {
  const settings = await settingsWith({ kvm: 'exit 1', tcg: 'exit 1' })
  expect(await kvmIsFaster(components, { ...settings, qemu: join(folder, 'absent') })).toBe(false)
  await expect(readFile(settings.file)).rejects.toMatchObject({ code: 'ENOENT' })
})

describeWithTools('the real QEMU', ['qemu-system-x86_64'], () => {
  test('runs the probe to its end when emulating', async () => {
    const settings = await settingsWith({ kvm: 'exit 2', tcg: 'exec qemu-system-x86_64 "$@"' })
    await kvmIsFaster(components, settings)
    // an answer is kept only when one of the two came to its end
    expect(JSON.parse(await readFile(settings.file, 'utf8'))).toMatchObject({ bootId: 'boot-1', kvmIsFaster: false })
  })
})
