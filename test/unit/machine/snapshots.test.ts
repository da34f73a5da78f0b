/**
 * Snapshots, rollback, discard and export of machines as the daemon offers them, with NBD clients at their disks.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { MAX_LAYERS } from '../../../src/disk/chain.ts'
import { COMMAND, COMMAND_FLAG } from '../../../src/nbd/protocol.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { NbdClient } from '../../tools/nbd-client.ts'
import { findTool } from '../../tools/need.ts'
import { runOk } from '../../tools/processes.ts'
import { BLOCKS, diskBytes, Peer, World } from './world.ts'

let home: string
let world: World
let peer: Peer

beforeEach(async () => {
  home = await temporaryFolder()
  world = new World()
  peer = await Peer.start(home, world)
  await peer.machines.attach({ name: 'm', ref: 'grid' })
})

afterEach(async () => {
  await peer.stop()
  await removeFolders()
})

const layers = () => join(home, 'machines', 'm', 'layers')
const folders = () => readdirSync(layers()).filter(name => /^\d{4}$/.test(name))

const parts = () => readdirSync(home).filter(name => name.startsWith('.disk.raw.') && name.endsWith('.rowan-part'))

async function write(text: string, offset = 0): Promise<void> {
  const client = await NbdClient.open(peer.socket('m'), 'm')
  const { errno } = await client.request(COMMAND.WRITE, {
    offset,
    flags: COMMAND_FLAG.FUA,
    data: Buffer.alloc(512, text)
  })
  expect(errno).toBe(0)
  await client.disconnect()
}

async function read(offset = 0): Promise<string> {
  const client = await NbdClient.open(peer.socket('m'), 'm')
  const bytes = await client.bytes(offset, 512)
  await client.disconnect()
  return bytes.toString('latin1', 0, 1)
}

const exported = (file: string, format: 'raw' | 'qcow2', snapshot?: string) =>
  peer.machines.export(
    'm',
    { disk: 'system', ...(snapshot === undefined ? {} : { snapshot }) },
    {
      ...{ file, format },
      signal: new AbortController().signal,
      onProgress: () => {}
    }
  )

describe('snapshots of a machine', () => {
  test('are taken while a client writes, and listed with what they are', async () => {
    await write('a')
    const first = await peer.machines.snapshot('m', 'before b')
    const client = await NbdClient.open(peer.socket('m'), 'm')
    await write('b')
    await peer.machines.snapshot('m', '')
    await client.disconnect()
    expect(first.name).toBe('s1')
    expect(peer.machines.snapshots('m')).toMatchObject([
      { snapshot: 's1', note: 'before b', current: true },
      { snapshot: 's2', note: '', current: true }
    ])
    expect(peer.machines.snapshots('m')[0]!.bytes).toBeGreaterThan(0)
    expect(await read()).toBe('b')
    const [state] = await peer.machines.status()
    expect(state).toMatchObject({ layers: 3 })
    // Those of all layers, and the log of the top.
    const taken = await Promise.all(
      ['0001/data', '0002/data', '0003/data', '0003/log'].map(async name => (await stat(join(layers(), name))).blocks)
    )
    expect(state!.layerBytes).toBe(512 * taken.reduce((sum, blocks) => sum + blocks))
  })

  test('are taken of a detached machine, too, and survive the daemon', async () => {
    await write('a')
    await peer.machines.detach('m')
    await peer.machines.snapshot('m', 'detached')
    await peer.stop()
    peer = await Peer.start(home, world)
    expect(peer.machines.snapshots('m')).toMatchObject([{ snapshot: 's1', note: 'detached' }])
    await peer.machines.attach({ name: 'm' })
    expect(await read()).toBe('a')
  })

  test('are gone back to, with nothing lost, but not under a client', async () => {
    await write('a')
    await peer.machines.snapshot('m', '')
    await write('b')
    const client = await NbdClient.open(peer.socket('m'), 'm')
    await expect(peer.machines.rollback('m', 's1')).rejects.toMatchObject({ code: 'MACHINE_RUNNING' })
    await client.disconnect()
    await expect.poll(async () => (await peer.machines.status())[0]!.clients).toBe(0)
    const left = await peer.machines.rollback('m', 's1')
    expect(await read()).toBe('a')
    expect(left).toMatchObject({ name: 's2', note: 'before the rollback to s1' })
    expect(peer.machines.snapshots('m').map(({ current }) => current)).toEqual([true, false])
    expect((await peer.machines.rollback('m', 's2')).name).toBe('s1')
    expect(await read()).toBe('b')
    await expect(peer.machines.rollback('m', 's7')).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN' })
    expect(await read()).toBe('b')
  })

  test('that are discarded give back what only they needed; neighbours are merged when nobody is at the disk', async () => {
    for (const [index, text] of ['a', 'b', 'c'].entries()) {
      await write(text, index * 4096)
      await peer.machines.snapshot('m', '')
    }
    expect(folders()).toHaveLength(4)
    await peer.machines.discard('m', 's1')
    await peer.machines.discard('m', 's2')
    await expect.poll(folders).toHaveLength(2)
    expect([await read(0), await read(4096), await read(8192)]).toEqual(['a', 'b', 'c'])
    await write('d')
    await peer.machines.rollback('m', 's3')
    await peer.machines.discard('m', 's4')
    expect(folders()).toHaveLength(2)
    await expect(peer.machines.discard('m', 's4')).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN' })
  })

  test('of a machine that is not attached give back what was written twice once it is', async () => {
    await write('a')
    await write('a', 4096)
    await peer.machines.snapshot('m', '')
    await write('b')
    await peer.machines.detach('m')
    await peer.machines.discard('m', 's1')
    expect(folders()).toEqual(['0001', '0002', '0003'])
    await peer.machines.attach({ name: 'm', ref: 'grid' })
    await expect.poll(folders).toHaveLength(2)
    expect(folders()).toContain('0003')
    expect([await read(), await read(4096)]).toEqual(['b', 'a'])
  })

  test('are refused beyond 256 layers, and the machine goes on', async () => {
    for (let count = 1; count < MAX_LAYERS; count++) {
      await write(String(count % 10))
      await peer.machines.snapshot('m', '')
    }
    await write('x')
    await expect(peer.machines.snapshot('m', '')).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' })
    await write('y', 512)
    await peer.stop()
    peer = await Peer.start(home, world)
    expect([await read(), await read(512)]).toEqual(['x', 'y'])
  }, 600_000)

  test('need layers', async () => {
    await peer.machines.attach({ name: 'r', ref: 'grid', readOnly: true })
    await expect(peer.machines.snapshot('r', '')).rejects.toMatchObject({ code: 'READ_ONLY' })
    expect(peer.machines.snapshots('r')).toEqual([])
    expect(() => peer.machines.snapshots('nobody')).toThrow(expect.objectContaining({ code: 'MACHINE_UNKNOWN' }))
  })
})

describe('a disk that is exported', () => {
  test('has what it held then, fetched where it was missing, and nothing else of the machine has changed', async () => {
    await write('a', BLOCK_SIZE_BYTES * 3)
    const expected = diskBytes(10)
    expected.fill('a', BLOCK_SIZE_BYTES * 3, BLOCK_SIZE_BYTES * 3 + 512)
    const file = join(home, 'disk.raw')
    expect(await exported(file, 'raw')).toEqual({
      sizeBytes: BLOCKS * BLOCK_SIZE_BYTES,
      dataBytes: BLOCKS * BLOCK_SIZE_BYTES
    })
    expect(Buffer.compare(await readFile(file), expected)).toBe(0)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(peer.machines.snapshots('m')).toEqual([])
    await expect(exported(file, 'raw')).rejects.toMatchObject({ code: 'FILE_EXISTS' })
    const nowhere = exported(join(home, 'no-folder', 'disk.raw'), 'raw')
    await expect(nowhere).rejects.toMatchObject({ code: 'FILE_UNWRITABLE' })
  })

  test('of a snapshot has what it held then; so has one of a machine without layers', async () => {
    await peer.machines.snapshot('m', 'pristine')
    await write('a')
    await peer.machines.snapshot('m', '')
    await write('b')
    await peer.machines.detach('m')
    for (const [snapshot, text] of [
      ['s1', undefined],
      ['s2', 'a'],
      [undefined, 'b']
    ] as const) {
      const file = join(home, `${snapshot}.raw`)
      await exported(file, 'raw', snapshot)
      const expected = diskBytes(10)
      if (text !== undefined) expected.fill(text, 0, 512)
      expect(Buffer.compare(await readFile(file), expected)).toBe(0)
    }
    await expect(exported(join(home, 'x'), 'raw', 's9')).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN' })
  })

  test.skipIf(findTool('qemu-img') === undefined)('as qcow2 is one that QEMU finds nothing wrong with', async () => {
    await write('a', 512)
    const file = join(home, 'disk.qcow2')
    await exported(file, 'qcow2')
    await runOk('qemu-img', ['check', file])
    await runOk('qemu-img', ['convert', '-O', 'raw', file, join(home, 'back.raw')])
    const expected = diskBytes(10)
    expected.fill('a', 512, 1024)
    expect(Buffer.compare(await readFile(join(home, 'back.raw')), expected)).toBe(0)
    // Block 3 is zeros, and takes no space.
    expect((await stat(file)).size).toBe((1 + 1 + BLOCKS - 1 + 1 + 2) * BLOCK_SIZE_BYTES)
  })

  test('that cannot be read whole, or is called off, leaves no file and no snapshot behind', async () => {
    world.online = false
    const stopping = new AbortController()
    const files = () => readdirSync(home).filter(name => name.includes('disk.raw'))
    const request = { file: join(home, 'disk.raw'), format: 'raw' as const, onProgress: () => {} }
    const exporting = peer.machines.export('m', { disk: 'system' }, { ...request, signal: stopping.signal })
    stopping.abort()
    await expect(exporting).rejects.toThrow()
    expect(files()).toEqual([])
    expect(peer.machines.snapshots('m')).toEqual([])
  })

  describe('is still being written', () => {
    let stopping: AbortController
    let exporting: Promise<unknown>

    beforeEach(async () => {
      await write('a')
      await peer.machines.snapshot('m', '')
      await write('b')
      await expect.poll(async () => (await peer.machines.status())[0]!.clients).toBe(0)
      // It waits for blocks that nobody has.
      world.online = false
      stopping = new AbortController()
      const request = { file: join(home, 'disk.raw'), format: 'raw' as const, onProgress: () => {} }
      exporting = peer.machines.export('m', { disk: 'system' }, { ...request, signal: stopping.signal })
      exporting.catch(() => {})
      await expect.poll(() => peer.machines.snapshots('m').map(({ note }) => note)).toEqual(['', 'being exported'])
      await expect.poll(() => parts().length).toBe(1)
    })

    afterEach(async () => {
      stopping.abort()
      world.online = true
      await exporting.catch(() => {})
    })

    test('when the machine is rolled back: what it was before outlives the export', async () => {
      const left = await peer.machines.rollback('m', 's1')
      stopping.abort()
      world.online = true
      await exporting.catch(() => {})
      expect(peer.machines.snapshots('m').map(({ snapshot }) => snapshot)).toEqual(['s1', left.name])
      expect(await read()).toBe('a')
      await expect.poll(async () => (await peer.machines.status())[0]!.clients).toBe(0)
      await peer.machines.rollback('m', left.name)
      expect(await read()).toBe('b')
    })

    test('when another one to the same place is done first: neither touches the other, and this one is told', async () => {
      await peer.machines.attach({ name: 'm', dataBytes: 2 ** 20 })
      const file = join(home, 'disk.raw')
      const request = { file, format: 'raw' as const, onProgress: () => {}, signal: new AbortController().signal }
      await peer.machines.export('m', { disk: 'data' }, request)
      expect(parts().length).toBe(1)
      world.online = true
      await expect(exporting).rejects.toMatchObject({ code: 'FILE_EXISTS' })
      expect(Buffer.compare(await readFile(file), Buffer.alloc(2 ** 20))).toBe(0)
      expect(parts()).toEqual([])
    })

    test('when it is called off: it waits for nobody any more, and leaves nothing behind', async () => {
      stopping.abort()
      await expect(exporting).rejects.toMatchObject({ code: 'ABORTED' })
      expect(peer.machines.snapshots('m').map(({ snapshot }) => snapshot)).toEqual(['s1'])
      expect(readdirSync(home).filter(name => name.includes('disk.raw'))).toEqual([])
    })

    test('when the daemon dies: the next one keeps nothing of it', async () => {
      const after = await temporaryFolder()
      await runOk('cp', ['-a', `${home}/.`, after])
      const next = await Peer.start(after, world)
      await expect.poll(() => next.machines.snapshots('m').map(({ snapshot }) => snapshot)).toEqual(['s1'])
      await next.stop()
    })
  })
})

describe('layers that are not what they should be', () => {
  test.each([
    ['a layer that is missing', () => rmSync(join(layers(), '0001'), { recursive: true }), /0001.data is missing/],
    [
      'a layer that is cut short',
      () => truncateSync(join(layers(), '0001', 'data'), 100),
      /0001.data: it is cut short/
    ],
    ['a chain that is damaged', () => writeFileSync(join(layers(), 'chain.json'), '{}'), /chain.json is damaged/],
    [
      'a chain that is missing',
      () => rmSync(join(layers(), 'chain.json')),
      /chain.json is missing; there is 0001, 0002/
    ]
  ])('%s keeps one machine from being served, with one clear line, and no other', async (_what, damage, says) => {
    await write('a')
    await peer.machines.snapshot('m', '')
    await peer.machines.attach({ name: 'other', ref: 'grid' })
    await peer.stop()
    damage()
    peer = await Peer.start(home, world)
    expect(peer.machines.served()).toEqual(['other'])
    const broken = (await peer.machines.status()).find(({ name }) => name === 'm')!
    expect(broken.error).toMatchObject({ code: 'LAYER_CORRUPT', message: expect.stringMatching(says) })
    await peer.machines.remove('m')
  })

  test('those of another machine are refused', async () => {
    await peer.machines.attach({ name: 'other', ref: 'grid' })
    await peer.stop()
    rmSync(layers(), { recursive: true })
    mkdirSync(layers())
    await runOk('cp', ['-a', `${join(home, 'machines', 'other', 'layers')}/.`, layers()])
    peer = await Peer.start(home, world)
    const broken = (await peer.machines.status()).find(({ name }) => name === 'm')!
    expect(broken.error?.message).toMatch(/chain.json: its machine is/)
    expect(existsSync(join(layers(), '0001'))).toBe(true)
  })
})

describe('a data disk', () => {
  const SIZE = 4 * 1024 * 1024
  const dataWrite = async (text: string, offset = 0) => {
    const client = await NbdClient.open(peer.socket('d'), 'd/data')
    const data = Buffer.alloc(512, text)
    const { errno } = await client.request(COMMAND.WRITE, { offset, flags: COMMAND_FLAG.FUA, data })
    expect(errno).toBe(0)
    await client.disconnect()
  }
  const dataRead = async (offset = 0, name = 'd/data') => {
    const client = await NbdClient.open(peer.socket('d'), name)
    const bytes = await client.bytes(offset, 512)
    await client.disconnect()
    return bytes[0]
  }
  const gone = () =>
    expect.poll(async () => (await peer.machines.status()).find(({ name }) => name === 'd')!.clients).toBe(0)

  test('is a second export that begins with zeros, is there after a restart, and shows in the status', async () => {
    const answer = await peer.machines.attach({ name: 'd', ref: 'grid', dataBytes: SIZE - 100 })
    expect(answer.data).toEqual({ size: SIZE, uri: `nbd+unix:///d/data?socket=${peer.socket('d')}` })
    expect(await dataRead(SIZE - 512)).toBe(0)
    await dataWrite('x', SIZE - 512)
    expect(await dataRead(0, 'd')).toBe(diskBytes(10)[0])
    await peer.stop()
    peer = await Peer.start(home, world)
    expect(await dataRead(SIZE - 512)).toBe('x'.charCodeAt(0))
    expect((await peer.machines.status()).map(({ name, dataBytes }) => [name, dataBytes])).toEqual([
      ['d', SIZE],
      ['m', undefined]
    ])
  })

  test('can be had later, once, of one size, and not by a read-only machine', async () => {
    await peer.machines.attach({ name: 'd', ref: 'grid' })
    await peer.machines.snapshot('d', 'without it')
    await peer.machines.attach({ name: 'd', dataBytes: SIZE })
    await dataWrite('x')
    await gone()
    await expect(peer.machines.attach({ name: 'd', dataBytes: 2 * SIZE })).rejects.toMatchObject({
      code: 'MACHINE_DIFFERS'
    })
    await peer.machines.attach({ name: 'd', dataBytes: SIZE })
    await peer.machines.rollback('d', 's1')
    expect(await dataRead()).toBe('x'.charCodeAt(0))
    const readOnly = { name: 'r', ref: 'grid', readOnly: true, dataBytes: SIZE }
    await expect(peer.machines.attach(readOnly)).rejects.toMatchObject({ code: 'USAGE' })
    await expect(peer.machines.attach({ name: 'x', ref: 'grid', dataBytes: 10 })).rejects.toMatchObject({
      code: 'USAGE'
    })
  })

  test('goes back together with the system disk, and can be exported', async () => {
    await peer.machines.attach({ name: 'd', ref: 'grid', dataBytes: SIZE })
    await dataWrite('a')
    await peer.machines.snapshot('d', '')
    await dataWrite('b')
    const files = ['now', 's1'].map(name => join(home, `${name}.raw`))
    const request = { format: 'raw' as const, signal: new AbortController().signal, onProgress: () => {} }
    await peer.machines.export('d', { disk: 'data' }, { ...request, file: files[0]! })
    await peer.machines.export('d', { disk: 'data', snapshot: 's1' }, { ...request, file: files[1]! })
    const found = await Promise.all(files.map(file => readFile(file)))
    expect(found.map(bytes => [bytes.length, bytes.toString('latin1', 0, 1), bytes[512]])).toEqual([
      [SIZE, 'b', 0],
      [SIZE, 'a', 0]
    ])
    await gone()
    await peer.machines.rollback('d', 's1')
    expect(await dataRead()).toBe('a'.charCodeAt(0))
    const before = peer.machines.snapshots('m')
    await expect(
      peer.machines.export('m', { disk: 'data' }, { ...request, file: join(home, 'x') })
    ).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN', message: 'm has no data disk' })
    expect(peer.machines.snapshots('m')).toEqual(before)
  })

  test('is exported to its end where that is no whole block, and something is written there', async () => {
    await peer.machines.attach({ name: 'd', ref: 'grid', dataBytes: SIZE + 4096 })
    await dataWrite('z', SIZE)
    // What an earlier part of the disk has at the same place is no part of its end.
    await dataWrite('y', 8192)
    // Each must end by itself: one that goes over the last block again and again is aborted, and fails.
    const request = { signal: AbortSignal.timeout(20_000), onProgress: () => {} }
    const raw = join(home, 'data.raw')
    const done = await peer.machines.export('d', { disk: 'data' }, { ...request, format: 'raw', file: raw })
    expect(done).toEqual({ sizeBytes: SIZE + 4096, dataBytes: 65536 + 4096 })
    const expected = Buffer.alloc(SIZE + 4096)
      .fill('z', SIZE, SIZE + 512)
      .fill('y', 8192, 8704)
    expect(Buffer.compare(await readFile(raw), expected)).toBe(0)
    await peer.machines.export('d', { disk: 'data' }, { ...request, format: 'qcow2', file: join(home, 'data.qcow2') })
    if (findTool('qemu-img') !== undefined) await runOk('qemu-img', ['compare', join(home, 'data.qcow2'), raw])
  })

  test('is in a snapshot what it was at the very moment of the system disk, whoever writes', async () => {
    await peer.machines.attach({ name: 'd', ref: 'grid', dataBytes: SIZE })
    const clients = await Promise.all(['d', 'd/data'].map(name => NbdClient.open(peer.socket('d'), name)))
    let taken: Promise<unknown> | undefined
    // First to the one, then to the other: a snapshot never has the second write without the first.
    for (let value = 1; value < 120; value++) {
      for (const client of clients) {
        await client.request(COMMAND.WRITE, { offset: 0, data: Buffer.alloc(512, value) })
      }
      if (value === 40) taken = peer.machines.snapshot('d', '')
    }
    await taken
    for (const client of clients) await client.disconnect()
    await gone()
    await peer.machines.rollback('d', 's1')
    const [system, data] = [await dataRead(0, 'd'), await dataRead(0)]
    expect(system).toBeGreaterThanOrEqual(40)
    expect([0, 1]).toContain(system! - data!)
  })
})
