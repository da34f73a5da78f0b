import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'

import { MAX_DEATHS } from '../../../src/machine/restart-policy.ts'
import { COMMAND, COMMAND_FLAG, ERRNO } from '../../../src/nbd/protocol.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { NbdClient } from '../../tools/nbd-client.ts'
import { waitUntil } from '../../tools/wait.ts'
import { threadOf } from './threads/served.ts'
import { BLOCKS, diskBytes, GRID, Peer, type PeerOptions, PUBLISHER, World } from './world.ts'

let home: string
let world: World
let peer: Peer

beforeEach(async () => {
  home = await temporaryFolder()
  world = new World()
  peer = await Peer.start(home, world)
})

afterEach(async () => {
  await peer.stop()
  await removeFolders()
})

async function restart(options: PeerOptions = {}): Promise<void> {
  await peer.stop()
  peer = await Peer.start(home, world, options)
}

const clientOf = (name: string, exportName = name) => NbdClient.open(peer.socket(name), exportName)
const state = async (name: string) => (await peer.machines.status()).find(each => each.name === name)!
const folderOf = (name: string) => join(home, 'machines', name)

async function read(name: string, offset: number, length: number): Promise<Buffer> {
  const client = await clientOf(name)
  const bytes = await client.bytes(offset, length)
  await client.disconnect()
  return bytes
}

/** @returns the error number of NBD, 0 for none */
async function write(name: string, offset: number, text: string): Promise<number> {
  const client = await clientOf(name)
  const { errno } = await client.request(COMMAND.WRITE, {
    offset,
    flags: COMMAND_FLAG.FUA,
    data: Buffer.alloc(512, text)
  })
  await client.disconnect()
  return errno
}

describe('a new machine', () => {
  test('is made of the release, and serves its disk at once, fetching what is read', async () => {
    const answer = await peer.machines.attach({ name: 'm', ref: 'grid' })
    expect(answer).toEqual({
      machine: 'm',
      appliance: GRID,
      version: 'v1',
      image: world.releases.v1.id,
      size: BLOCKS * BLOCK_SIZE_BYTES,
      uri: `nbd+unix:///m?socket=${home}/nbd/m.sock`,
      readOnly: false,
      tcpUri: null,
      clients: 0,
      created: true
    })
    expect(peer.machines.served()).toEqual(['m'])
    expect(await read('m', BLOCK_SIZE_BYTES - 512, 1024)).toEqual(
      diskBytes(10).subarray(BLOCK_SIZE_BYTES - 512, BLOCK_SIZE_BYTES + 512)
    )
    expect(await state('m')).toMatchObject({
      attached: true,
      clients: 0,
      layers: 1,
      local: { blocks: 2, of: BLOCKS - 1 },
      fetched: { blocks: 2, bytes: 2 * BLOCK_SIZE_BYTES, wireBytes: 2000 },
      waited: { reads: 1 }
    })
  })

  test('records what its guest touches first, for the next boot of the image', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    for (let block = 0; block < BLOCKS; block++) await read('m', ((block * 7) % BLOCKS) * BLOCK_SIZE_BYTES, 512)
    expect(peer.profiles.choose(world.releases.v1.id, BLOCKS)).toBeUndefined()
    await peer.machines.detach('m')
    const { profile } = peer.profiles.choose(world.releases.v1.id, BLOCKS)!
    const order = Array.from({ length: BLOCKS }, (_, index) => (index * 7) % BLOCKS)
    // Block 3 is all zero.
    expect(profile.map(({ block }) => block)).toEqual(order.filter(block => block !== 3))
  })

  test('has blocks fetched in the order in which the version before was booted, and none that is here', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid@v1' })
    for (const block of [7, 2, 9, 5, ...Array(BLOCKS).keys()]) await read('m', block * BLOCK_SIZE_BYTES, 512)
    await peer.machines.detach('m')
    expect(world.askedAhead).toEqual([])
    world.fetchesAhead = true
    await peer.machines.attach({ name: 'n', ref: 'grid@v2' })
    await waitUntil('blocks ahead of the guest', () => world.askedAhead.length >= 5)
    expect(world.askedAhead.slice(0, 5)).toEqual([7, 2, 9, 5, 0])
  })

  test('announces its peer as a partial replica, and as a whole one when it is', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    expect(world.announced).toEqual([{ image: world.releases.v1.id, appliance: GRID, complete: false }])
    await read('m', 0, BLOCKS * BLOCK_SIZE_BYTES)
    await restart()
    expect(world.announced.slice(1)).toEqual([{ image: world.releases.v1.id, appliance: GRID, complete: true }])
  })

  test('may be of another version, or read-only', async () => {
    await peer.machines.attach({ name: 'r', ref: `${PUBLISHER}/grid@v2`, readOnly: true })
    expect(await read('r', 0, 512)).toEqual(diskBytes(50).subarray(0, 512))
    expect(await write('r', 0, 'x')).toBe(ERRNO.EPERM)
    expect(await state('r')).toMatchObject({ layers: 0 })
  })

  test('is refused when the release promises another size than its image has', async () => {
    world.releases.v1.promisedBytes += 512
    await expect(peer.machines.attach({ name: 'm', ref: 'grid' })).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    expect(peer.machines.served()).toEqual([])
  })

  test('is for its owner only', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    expect((await stat(folderOf('m'))).mode & 0o777).toBe(0o700)
    expect((await stat(join(folderOf('m'), 'machine.json'))).mode & 0o777).toBe(0o600)
  })

  test.each([
    ['no network', { name: 'm', ref: 'grid' }, 'APPLIANCE_UNKNOWN'],
    ['no such version', { name: 'm', ref: 'grid@v9' }, 'VERSION_UNKNOWN'],
    ['no appliance', { name: 'm' }, 'MACHINE_UNKNOWN'],
    ['no appliance’s name', { name: 'm', ref: 'a/b/c' }, 'APPLIANCE_REF_INVALID'],
    ['no machine’s name', { name: '../m', ref: 'grid' }, 'NAME_INVALID']
  ])('that cannot be made leaves nothing behind: %s', async (what, request, code) => {
    world.online = what !== 'no network'
    await expect(async () => await peer.machines.attach(request)).rejects.toMatchObject({ code })
    expect(await peer.machines.status()).toEqual([])
    expect(await readdir(join(home, 'machines'))).toEqual([])
  })

  test('whose request is given up leaves nothing behind', async () => {
    world.resolving = new Promise(() => {})
    const controller = new AbortController()
    const attaching = peer.machines.attach({ name: 'm', ref: 'grid', signal: controller.signal })
    await waitUntil('the resolve', () => world.asked.length > 0)
    controller.abort()
    await expect(attaching).rejects.toThrow()
    expect(await readdir(join(home, 'machines'))).toEqual([])
  })

  test('asked for twice at the same time is made once', async () => {
    const answers = await Promise.all([1, 2, 3].map(() => peer.machines.attach({ name: 'm', ref: 'grid' })))
    expect(answers.map(({ created }) => created)).toEqual([true, false, false])
    expect(world.asked).toEqual(['grid'])
  })
})

describe('a machine that exists', () => {
  beforeEach(async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    await write('m', 4096, 'mine')
  })

  test('is attached without network, by itself, its appliance, its version or a channel, and keeps its version', async () => {
    world.stable = 'v2'
    world.online = false
    world.asked.length = 0
    for (const ref of [undefined, 'grid', GRID, 'grid@v1', 'grid:stable', 'grid:testing']) {
      await peer.machines.detach('m')
      const answer = await peer.machines.attach(ref === undefined ? { name: 'm' } : { name: 'm', ref })
      expect(answer).toMatchObject({ version: 'v1', created: false })
      expect((await read('m', 4096, 512)).toString()).toMatch(/^(mine)+$/)
    }
    expect(world.asked).toEqual([])
  })

  test.each(['grid@v2', 'other', 'other@v1'])('is not of %s', async ref => {
    await expect(peer.machines.attach({ name: 'm', ref })).rejects.toMatchObject({
      code: 'MACHINE_DIFFERS',
      message: expect.stringContaining(`${GRID}@v1`)
    })
    expect(peer.machines.served()).toEqual(['m'])
  })

  test('can be attached read-only and back, not under a client', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid', readOnly: true })
    expect(await write('m', 0, 'x')).toBe(ERRNO.EPERM)
    expect((await read('m', 4096, 512)).toString()).toMatch(/^(mine)+$/)
    const client = await clientOf('m')
    await expect(peer.machines.attach({ name: 'm', readOnly: false })).rejects.toMatchObject({
      code: 'MACHINE_RUNNING'
    })
    await client.disconnect()
    await waitUntil('the end of the client', async () => (await state('m')).clients === 0)
    await peer.machines.attach({ name: 'm', readOnly: false })
    await write('m', 4096, 'back')
  })

  test('that was read-only from the start gets its first layer when it is attached for writing', async () => {
    await peer.machines.attach({ name: 'r', ref: 'grid', readOnly: true })
    await peer.machines.attach({ name: 'r', readOnly: false })
    await write('r', 0, 'w')
    await restart()
    expect((await read('r', 0, 512)).toString()).toMatch(/^w+$/)
  })

  test('is served again after a restart without network, its writes, numbers and mode kept', async () => {
    await read('m', 0, 2 * BLOCK_SIZE_BYTES)
    await peer.machines.attach({ name: 'r', ref: 'grid', readOnly: true })
    await peer.machines.detach('r')
    await peer.machines.attach({ name: 'd', ref: 'grid' })
    await peer.machines.detach('d')
    const before = await state('m')
    world.online = false
    world.asked.length = 0
    await restart({ bootId: 'boot-2' })
    expect(peer.machines.served()).toEqual(['m'])
    expect(world.asked).toEqual([])
    expect((await read('m', 4096, 512)).toString()).toMatch(/^(mine)+$/)
    expect(await state('m')).toMatchObject({ fetched: before.fetched, waited: before.waited })
    expect((await state('r')).description).toMatchObject({ readOnly: true, attached: false })
    expect((await peer.machines.status()).map(({ name }) => name)).toEqual(['d', 'm', 'r'])
  })

  test('counts what was fetched over all its sessions, and not what came before it', async () => {
    await read('m', 0, 512)
    await peer.machines.detach('m')
    await peer.machines.attach({ name: 'm' })
    await read('m', BLOCK_SIZE_BYTES, 512)
    await peer.machines.attach({ name: 'late', ref: 'grid' })
    expect((await state('m')).fetched).toEqual({ blocks: 2, bytes: 2 * BLOCK_SIZE_BYTES, wireBytes: 2000 })
    expect((await state('m')).waited.reads).toBe(2)
    expect((await state('late')).fetched.blocks).toBe(0)
  })

  test('whose image was lost is fetched again when it is attached', async () => {
    await peer.stop()
    await rm(join(home, 'catalog'), { recursive: true })
    peer = await Peer.start(home, world)
    expect(await state('m')).toMatchObject({ attached: false, error: { code: 'NO_REPLICA' } })
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    expect((await read('m', 4096, 512)).toString()).toMatch(/^(mine)+$/)
    expect(await state('m')).not.toHaveProperty('error')
  })
})

describe('detach', () => {
  test('ends the clients’ connections after their requests, and keeps the writes', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    const client = await clientOf('m')
    await client.request(COMMAND.WRITE, { offset: 0, data: Buffer.alloc(512, 7) })
    expect((await state('m')).clients).toBe(1)
    await peer.machines.detach('m')
    expect((await state('m')).clients).toBe(0)
    expect(peer.machines.served()).toEqual([])
    await expect(clientOf('m')).rejects.toThrow('ENOENT')
    await restart()
    expect(peer.machines.served()).toEqual([])
    await peer.machines.attach({ name: 'm' })
    expect(await read('m', 0, 512)).toEqual(Buffer.alloc(512, 7))
  })

  test('of a machine that could not be served ends its error; of one that nobody can read it is refused', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    await peer.machines.attach({ name: 'unread', ref: 'grid' })
    await peer.stop()
    await rm(join(home, 'machines', 'm', 'layers', '0001'), { recursive: true })
    await writeFile(join(home, 'machines', 'unread', 'machine.json'), '{')
    peer = await Peer.start(home, world)
    const stateOf = async (name: string) => (await peer.machines.status()).find(each => each.name === name)!
    expect((await stateOf('m')).error).toMatchObject({ code: 'LAYER_CORRUPT' })
    await peer.machines.detach('m')
    expect((await stateOf('m')).error).toBeUndefined()
    expect(peer.machines.describe('m')!.attached).toBe(false)
    await expect(peer.machines.attach({ name: 'm' })).rejects.toMatchObject({ code: 'LAYER_CORRUPT' })
    await expect(peer.machines.detach('unread')).rejects.toMatchObject({ code: 'MACHINE_CORRUPT' })
  })

  test('of a machine that is detached does nothing, of one that is not there says so', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    await peer.machines.detach('m')
    await peer.machines.detach('m')
    await expect(peer.machines.detach('n')).rejects.toMatchObject({ code: 'MACHINE_UNKNOWN' })
  })

  test('lets nobody new in while those who are there finish, and gives up what waits for the network', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    const client = await clientOf('m')
    world.online = false
    const waiting = client.bytes(0, 512).catch((error: unknown) => error)
    await waitUntil('the read', async () => (await state('m')).waited.reads === 1)
    const detaching = peer.machines.detach('m')
    const isRefused = () =>
      clientOf('m').then(
        another => another.destroy(),
        () => true
      )
    await waitUntil('the closed door', async () => (await isRefused()) === true)
    expect(await state('m')).toMatchObject({ attached: true })
    await detaching
    expect(await waiting).toBeInstanceOf(Error)
    world.online = true
  })
})

describe('remove', () => {
  test('lets the other guests go on while it deletes', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    const many = Array.from({ length: 500 }, (_, number) => join(folderOf('m'), 'layers', `file-${number}`))
    await Promise.all(many.map(path => writeFile(path, 'x')))
    let isOver = false
    let wasSeenHalfDone = false
    const look = () => {
      wasSeenHalfDone ||= existsSync(join(home, 'machines', '.gone-m.0')) && !existsSync(folderOf('m'))
      if (!isOver) setImmediate(look)
    }
    look()
    await peer.machines.remove('m')
    isOver = true
    expect(wasSeenHalfDone).toBe(true)
    expect(await readdir(join(home, 'machines'))).toEqual([])
  })

  test('forgets the machine with its layers, and the name is free again', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    await write('m', 0, 'x')
    await peer.machines.remove('m')
    expect(await peer.machines.status()).toEqual([])
    expect(await readdir(join(home, 'machines'))).toEqual([])
    await peer.machines.attach({ name: 'm', ref: 'grid@v2' })
    expect(await read('m', 0, 512)).toEqual(diskBytes(50).subarray(0, 512))
  })

  test('is refused while a client is there, unless forced', async () => {
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    const client = await clientOf('m')
    await expect(peer.machines.remove('m')).rejects.toMatchObject({ code: 'MACHINE_RUNNING' })
    expect((await client.request(COMMAND.READ, { offset: 0, length: 512 })).errno).toBe(0)
    await peer.machines.remove('m', { force: true })
    await client.closed
    await expect(peer.machines.remove('m')).rejects.toMatchObject({ code: 'MACHINE_UNKNOWN' })
  })
})

describe('a machine that is damaged does not keep the others from starting', () => {
  beforeEach(async () => {
    for (const name of ['bad', 'good']) await peer.machines.attach({ name, ref: 'grid' })
    await write('bad', 0, 'precious')
  })

  async function damage(change: (folder: string) => Promise<unknown>, code: string): Promise<void> {
    await peer.stop()
    await change(folderOf('bad'))
    peer = await Peer.start(home, world)
    expect(peer.machines.served()).toEqual(['good'])
    expect(await state('bad')).toMatchObject({ attached: false, error: { code } })
    await expect(peer.machines.attach({ name: 'bad', ref: 'grid' })).rejects.toMatchObject({ code })
  }

  test.each([
    ['empty', ''],
    ['cut short', '{"format":1,'],
    ['of a later format', '{"format":2}'],
    ['of another machine', JSON.stringify({ format: 1, name: 'good' })],
    ['without its image', JSON.stringify({ format: 1, name: 'bad', sizeBytes: 5, appliance: GRID, version: 'v1' })],
    ['huge', ' '.repeat(100_000)]
  ])('its description is %s', async (_what, text) => {
    await damage(folder => writeFile(join(folder, 'machine.json'), text), 'MACHINE_CORRUPT')
  })

  test('its description is missing; it comes back with a copy of it', async () => {
    const copy = await readFile(join(folderOf('bad'), 'machine.json'))
    await damage(folder => rm(join(folder, 'machine.json')), 'MACHINE_CORRUPT')
    await writeFile(join(folderOf('bad'), 'machine.json'), copy)
    await peer.machines.attach({ name: 'bad' })
    expect((await read('bad', 0, 512)).toString()).toContain('precious')
    expect(await state('bad')).not.toHaveProperty('error')
  })

  test('its layer is missing: it never starts with an empty one', async () => {
    await damage(folder => rm(join(folder, 'layers'), { recursive: true }), 'LAYER_CORRUPT')
    expect(await readdir(folderOf('bad'))).not.toContain('layers')
  })

  test('its layer is another machine’s', async () => {
    await damage(async folder => {
      await rm(join(folder, 'layers'), { recursive: true })
      await cp(join(folderOf('good'), 'layers'), join(folder, 'layers'), { recursive: true })
    }, 'LAYER_CORRUPT')
  })

  test('and it can be removed', async () => {
    await damage(folder => writeFile(join(folder, 'machine.json'), '?'), 'MACHINE_CORRUPT')
    await peer.machines.remove('bad')
    expect(await readdir(join(home, 'machines'))).toEqual(['good'])
  })

  test('damaged numbers start from zero', async () => {
    await peer.stop()
    await writeFile(join(folderOf('bad'), 'stats.json'), '{"fetched":{"blocks":-1}}')
    peer = await Peer.start(home, world)
    expect(await state('bad')).toMatchObject({ attached: true, fetched: { blocks: 0 } })
    expect(peer.log.join('')).toContain('counting from zero')
  })
})

describe('a machine whose thread dies', () => {
  const startThread = threadOf('./mortal-disk-thread.ts', 16)

  /** The client of whoever writes this loses its disk; the write itself was answered. */
  async function kill(name: string): Promise<void> {
    const client = await clientOf(name)
    await client.request(COMMAND.WRITE, { offset: 8192, data: Buffer.alloc(512, 'EXPLODE') })
    await client.closed
  }

  async function servedAgain(times: number): Promise<void> {
    const said = () => peer.log.filter(line => line.includes('is served again')).length
    await waitUntil('the machine', () => said() === times)
  }

  beforeEach(async () => {
    await restart({ startThread })
    for (const name of ['bad', 'good']) await peer.machines.attach({ name, ref: 'grid' })
  })

  test('is served again by itself with what was acknowledged, at the same address; the others go on', async () => {
    const other = await clientOf('good')
    await write('bad', 4096, 'mine')
    await kill('bad')
    expect((await other.request(COMMAND.READ, { offset: 0, length: 512 })).errno).toBe(0)
    await servedAgain(1)
    expect((await read('bad', 4096, 512)).toString()).toMatch(/^(mine)+$/)
    expect((await read('bad', 8192, 7)).toString()).toBe('EXPLODE')
    expect(await state('bad')).not.toHaveProperty('error')
    expect(peer.log.join('')).toContain('the disk of a machine has failed')
    await other.disconnect()
  })

  test('again and again is left alone with one clear error, until somebody attaches it', async () => {
    for (let death = 1; death < MAX_DEATHS; death++) {
      await kill('bad')
      await servedAgain(death)
    }
    await kill('bad')
    await waitUntil('the end', async () => !(await state('bad')).attached)
    expect(await state('bad')).toMatchObject({ attached: false, error: { code: 'DISK_DIED' } })
    expect((await state('bad')).description).toMatchObject({ attached: true })
    expect(peer.machines.served()).toEqual(['good'])
    await peer.machines.attach({ name: 'bad' })
    expect((await read('bad', 8192, 7)).toString()).toBe('EXPLODE')
  })
})

test('what a crash left half made or half removed is swept away', async () => {
  await peer.machines.attach({ name: 'm', ref: 'grid' })
  await peer.stop()
  await mkdir(join(home, 'machines', '.new-x', 'layers'), { recursive: true })
  await mkdir(join(home, 'machines', '.gone-y.0', 'layers'), { recursive: true })
  peer = await Peer.start(home, world)
  const names = () => readdir(join(home, 'machines'))
  await waitUntil('the sweep', async () => (await names()).join() === 'm')
})

test('a crash between the making of a machine and of its first layer leaves a machine that starts', async () => {
  await peer.machines.attach({ name: 'm', ref: 'grid' })
  await peer.stop()
  const file = join(folderOf('m'), 'machine.json')
  await writeFile(file, (await readFile(file, 'utf8')).replace('"hasLayer": true', '"hasLayer": false'))
  await writeFile(join(folderOf('m'), 'layers', '0001', 'map'), 'half')
  peer = await Peer.start(home, world)
  await write('m', 0, 'ok')
})

test('each machine is served apart, under its name and as the default export', async () => {
  for (const name of ['m', 'n']) await peer.machines.attach({ name, ref: 'grid' })
  for (const asked of ['m', '']) {
    const client = await clientOf('m', asked)
    await client.disconnect()
  }
  await expect(clientOf('m', 'n')).rejects.toThrow('there is no export "n" here')
  expect(peer.machines.images()).toEqual(new Set([world.releases.v1.id]))
})

test('the sockets that a crash left are swept away', async () => {
  await peer.machines.attach({ name: 'm', ref: 'grid' })
  await peer.stop()
  await writeFile(peer.socket('gone'), '')
  peer = await Peer.start(home, world)
  expect(await readdir(join(home, 'nbd'))).toEqual(['m.sock'])
})

test('two machines of one image keep their writes apart', async () => {
  for (const name of ['a', 'b']) await peer.machines.attach({ name, ref: 'grid' })
  await write('a', 0, 'a')
  expect(await read('b', 0, 512)).toEqual(diskBytes(10).subarray(0, 512))
})
