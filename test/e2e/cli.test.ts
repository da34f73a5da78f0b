/**
 * The command line's contract: what each command's `--json` answer has at least, and what goes where.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writePskFolder } from '../tools/certificates.ts'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { freePort } from '../tools/free-port.ts'
import { errorCode, Peer, rowan } from '../tools/peers.ts'
import { endProcesses, run, runOk } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const SIZE_BYTES = 16 * 1024 * 1024
const BLOCKS = 256

let publisher: Peer
let volunteer: Peer
let appliance: string
let image: string

beforeAll(async () => {
  const folder = await temporaryFolder()
  image = join(folder, 'tiny.raw')
  await makeTinyAppliance(image, { powerOff: true })
  publisher = await Peer.start()
  volunteer = await Peer.start({ bootstrap: [publisher] })
  appliance = `${publisher.publisher}/grid`
})

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

test('up says who it is and where, in one line', async () => {
  const { ready } = publisher
  expect(ready).toMatchObject({ peer: expect.any(String), publisher: expect.any(String), control: expect.any(String) })
  expect(ready.publisher).not.toBe(ready.peer)
  expect(ready.addresses.length).toBeGreaterThan(0)
  for (const address of ready.addresses)
    expect(address).toMatch(new RegExp(`^/ip4/127\\.0\\.0\\.1/tcp/\\d+/p2p/${ready.peer}$`))
  expect(publisher.process.stdout.trim().split('\n')).toHaveLength(1)
  expect((await stat(ready.control)).mode & 0o777).toBe(0o600)
  expect((await stat(join(publisher.home, 'keys'))).mode & 0o777).toBe(0o700)
})

test('up announces other addresses when told to', async () => {
  const peer = await Peer.start({ args: ['--announce', '/ip4/127.0.0.1/tcp/4999'] })
  expect(peer.addresses).toEqual([`/ip4/127.0.0.1/tcp/4999/p2p/${peer.id}`])
  await peer.stop()
})

test('publish', async () => {
  const published = await publisher.json(['publish', image, 'grid@v1', '--channel', 'testing'])
  expect(published).toMatchObject({ appliance, version: 'v1', size: SIZE_BYTES, blocks: BLOCKS })
  expect(published.image).toMatch(/^[0-9a-f]{64}$/)
  expect(published.zeroBlocks).toBe(BLOCKS / 4)
  expect(published.newBlocks).toBe((BLOCKS * 3) / 4)
  expect(published.seconds).toBeGreaterThan(0)
  await publisher.json(['publish', image, 'grid@v2', '--rollout', '100'])
})

test('replicate', async () => {
  const answer = await volunteer.json(['replicate', `${appliance}@v1`, '--wait'])
  expect(answer).toMatchObject({
    appliance,
    version: 'v1',
    complete: true,
    image: expect.stringMatching(/^[0-9a-f]{64}$/)
  })
})

test('follow', async () => {
  expect(await volunteer.json(['follow', appliance, '--as', 'g'])).toEqual(
    expect.objectContaining({ alias: 'g', appliance })
  )
})

test('attach', async () => {
  const attached = await volunteer.json(['attach', 'g:testing', '--as', 'm'])
  expect(attached).toMatchObject({ machine: 'm', appliance, version: 'v1', size: SIZE_BYTES })
  const uri = new URL(attached.uri)
  expect(uri.protocol).toBe('nbd+unix:')
  expect(uri.pathname).toBe('/m')
  expect((await stat(uri.searchParams.get('socket')!)).mode & 0o777).toBe(0o600)
  const readOnly = await volunteer.json(['attach', 'g@v2', '--as', 'r', '--read-only'])
  expect(readOnly).toMatchObject({ machine: 'r', version: 'v2' })
})

test('attach --tcp serves the disk behind TLS as well, until it is told not to', async () => {
  const keys = await writePskFolder(join(publisher.home, 'tls'), 'worker')
  const port = await freePort()
  const { tcpUri, uri } = await publisher.json(['attach', 'grid@v2', '--as', 't', '--tcp', `${port}`])
  expect(tcpUri).toBe(`nbds://127.0.0.1:${port}/t`)
  const there = `nbds://worker@localhost:${port}/t?tls-psk-file=${keys}`
  const { TLS, exports } = JSON.parse(await runOk('nbdinfo', ['--json', there]))
  expect({ TLS, exports }).toMatchObject({ TLS: true, exports: [{ 'export-size': SIZE_BYTES }] })
  expect((await run('nbdinfo', [`nbd://localhost:${port}/t`])).status).not.toBe(0)
  const copies = await Promise.all(
    [uri, there].map(async from => {
      const file = join(await temporaryFolder(), 'copy.raw')
      await runOk('nbdcopy', [from, file])
      return await hashFile(file)
    })
  )
  expect(copies[0]).toBe(copies[1])
  expect(await publisher.json(['attach', 'grid@v2', '--as', 't', '--tcp', 'none'])).toMatchObject({ tcpUri: null })
  expect((await run('nbdinfo', [there])).status).not.toBe(0)
  const refused = await publisher.run(['attach', 'grid@v2', '--as', 't', '--tcp', 'nowhere'])
  expect({ code: errorCode(refused), status: refused.status }).toEqual({ code: 'TCP_ADDRESS_INVALID', status: 2 })
  await publisher.json(['remove', 't', '--yes'])
})

test('run boots the machine and answers when its guest is gone', async () => {
  const console_ = join(await temporaryFolder(), 'console')
  const answer = await volunteer.ask(['run', 'm', '--net', 'none', '--', '-serial', `file:${console_}`])
  expect(answer).toMatchObject({ machine: 'm', appliance, version: 'v1', exit: 0 })
  expect((answer as { seconds: number }).seconds).toBeGreaterThan(0)
  expect(await readFile(console_, 'latin1')).toMatch(/APPLIANCE-READY 0 v1 boot 00000001[\s\S]*APPLIANCE-WORK 00000020/)
})

test('releases', async () => {
  await waitUntil('the volunteer to be known as a replica', async () =>
    (await publisher.json(['releases', 'grid'])).every(({ replicas }) => replicas >= 2)
  )
  const rows = await publisher.json(['releases', 'grid'])
  expect(rows.map(({ version }) => version).sort()).toEqual(['v1', 'v2'])
  for (const row of rows) {
    expect(row).toMatchObject({
      appliance,
      image: expect.stringMatching(/^[0-9a-f]{64}$/),
      replicas: expect.any(Number)
    })
    expect(row.channels).toEqual([row.version === 'v1' ? 'testing' : 'stable'])
    expect(new Date(row.published).toISOString()).toBe(row.published)
    expect(row.sharers).toEqual({ count: 1, exact: true })
  }
})

test('status', async () => {
  const status = await volunteer.json(['status'])
  expect(status).toMatchObject({ peer: volunteer.id, peers: 1 })
  expect(status.pool).toMatchObject({ blocks: (BLOCKS * 3) / 4, bytes: (BLOCKS * 3 * 65_536) / 4 })
  const machine = status.machines.find(({ name }) => name === 'm')!
  expect(machine).toMatchObject({
    version: 'v1',
    layers: 1,
    local: { blocks: (BLOCKS * 3) / 4, of: (BLOCKS * 3) / 4 },
    fetched: { blocks: 0, bytes: 0, wireBytes: 0 },
    waited: { seconds: expect.any(Number), longestMs: expect.any(Number), reads: expect.any(Number) }
  })
})

test('doctor', async () => {
  const rows = await volunteer.json(['doctor'])
  expect(rows.length).toBeGreaterThan(2)
  for (const row of rows) {
    expect(row).toEqual(
      expect.objectContaining({
        check: expect.any(String),
        ok: expect.any(Boolean),
        detail: expect.any(String),
        advice: expect.any(String)
      })
    )
    if (!row.ok) expect(row.advice).not.toBe('')
  }
})

test('key show', async () => {
  const shown = await publisher.ask(['key', 'show'])
  expect(shown).toMatchObject({ publisher: publisher.publisher, root: true })
})

test('detach, remove', async () => {
  expect(await volunteer.json(['detach', 'm'])).toMatchObject({ machine: 'm' })
  expect(errorCode(await volunteer.run(['remove', 'm']))).toBeDefined()
  expect(await volunteer.json(['remove', 'm', '--yes'])).toMatchObject({ machine: 'm' })
  expect((await volunteer.json(['status'])).machines.map(({ name }) => name)).toEqual(['r'])
  expect(errorCode(await volunteer.run(['detach', 'm']))).toBe('MACHINE_UNKNOWN')
})

test('without --json a person can read it; global options may come first or last', async () => {
  const first = await rowan(['--home', volunteer.home, 'status'])
  const last = await rowan(['status', '--home', volunteer.home])
  for (const result of [first, last]) {
    expect(result.status).toBe(0)
    expect(result.stdout).toContain(volunteer.id)
    expect(() => JSON.parse(result.stdout)).toThrow()
  }
})

test('every command explains itself, with an example', async () => {
  const help = await rowan(['--help'])
  expect(help.status).toBe(0)
  for (const command of [
    'up',
    'publish',
    'replicate',
    'attach',
    'run',
    'detach',
    'remove',
    'releases',
    'status',
    'follow',
    'doctor',
    'key'
  ]) {
    expect(help.stdout).toMatch(new RegExp(`^ +${command}\\b`, 'm'))
    const own = await rowan([command, '--help'])
    expect(own.status).toBe(0)
    expect(own.stdout).toMatch(/[Ee]xample/)
    expect(own.stdout).toContain(`rowan ${command}`)
  }
})
