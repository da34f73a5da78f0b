/**
 * The attacher by itself: machines of its own, in a peer that keeps none.
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { Attacher, type AttachRequest, attachAnswer } from '../../../src/machine/attacher.ts'
import { DiskThread, type StartThread } from '../../../src/machine/disk-thread.ts'
import { Machine } from '../../../src/machine/machine.ts'
import { startDiskThread } from '../../../src/node/disk-thread.ts'
import { writePskFolder } from '../../tools/certificates.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { freePort } from '../../tools/free-port.ts'
import { NbdClient } from '../../tools/nbd-client.ts'
import { BLOCKS, diskBytes, GRID, Peer, World } from './world.ts'

const SIZE_BYTES = diskBytes(10).length
const NEW: AttachRequest = { name: 'm', ref: 'grid' }

let home: string
let world: World
let peer: Peer
let attacher: Attacher
/** Those that the attacher asked for. */
let machines: Machine[]
let isFull: boolean
/** How many of the next disks cannot be opened. */
let failures: number

const startThread: StartThread = input => {
  if (failures === 0) return startDiskThread(input)
  failures -= 1
  throw new RowanError('DISK_DIED', 'no thread today')
}

async function startPeer(): Promise<void> {
  peer = await Peer.start(home, world, { startThread })
  const { components, settings } = peer.parts
  attacher = new Attacher(components, settings, {
    checkRoom: () => {
      if (isFull) throw new RowanError('LIMIT_EXCEEDED', 'there are enough machines')
    },
    machine: description => {
      const machine = new Machine(components, settings, description)
      machines.push(machine)
      return machine
    }
  })
}

async function stopPeer(): Promise<void> {
  for (const machine of machines) await machine.close({ stayAttached: false })
  await peer.stop()
}

beforeEach(async () => {
  home = await temporaryFolder()
  world = new World()
  machines = []
  isFull = false
  failures = 0
  await startPeer()
})

afterEach(async () => {
  await stopPeer()
  await removeFolders()
})

const open = () => NbdClient.open(peer.socket('m'), 'm')
const hasFolder = () => existsSync(join(home, 'machines', 'm'))

/** A read of a machine's first sector, by its own client. */
async function firstSector(): Promise<Buffer> {
  const client = await open()
  const bytes = await client.bytes(0, 512)
  await client.disconnect()
  return bytes
}

describe('a new machine', () => {
  test('is served over the image of its release, and described', async () => {
    const machine = await attacher.create({ ...NEW, dataBytes: 1024 * 1024 + 1 })
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
    expect(await attachAnswer(machine, true)).toEqual({
      clients: expect.any(Number),
      machine: 'm',
      appliance: GRID,
      version: 'v1',
      image: world.releases.v1.id,
      size: SIZE_BYTES,
      uri: `nbd+unix:///m?socket=${peer.socket('m')}`,
      tcpUri: null,
      readOnly: false,
      created: true,
      data: { size: 1024 * 1024 + 4096, uri: `nbd+unix:///m/data?socket=${peer.socket('m')}` }
    })
    expect(machine.description).toMatchObject({ attached: true, hasLayer: true, id: expect.stringMatching(/^\w{32}$/) })
    expect(hasFolder()).toBe(true)
  })

  test.each<[string, Partial<AttachRequest>, string]>([
    ['a data disk that is too small', { dataBytes: 1 }, 'USAGE'],
    ['a data disk that is too large', { dataBytes: 9 * 1024 ** 4 }, 'USAGE'],
    ['a data disk that cannot be written to', { dataBytes: 2 ** 20, readOnly: true }, 'USAGE'],
    ['an address that is none', { tcp: 'here' }, 'TCP_ADDRESS_INVALID'],
    ['no appliance', { ref: undefined as unknown as string }, 'MACHINE_UNKNOWN']
  ])('of %s is refused before anybody is asked', async (_, change, code) => {
    await expect(attacher.create({ ...NEW, ...change })).rejects.toMatchObject({ code })
    expect([world.asked, machines, hasFolder()]).toEqual([[], [], false])
  })

  test('beyond the limit is refused before anybody is asked', async () => {
    isFull = true
    await expect(attacher.create(NEW)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect([world.asked, hasFolder()]).toEqual([[], false])
  })

  test('of an image of another size than promised has no folder', async () => {
    world.releases.v1.promisedBytes += 1
    await expect(attacher.create(NEW)).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    expect(hasFolder()).toBe(false)
  })

  test('that nobody wants any more when its image is open has no folder', async () => {
    const wanted = new AbortController()
    const { swarm } = peer.parts.components
    const { openImage } = swarm
    swarm.openImage = (...parameters) => {
      wanted.abort()
      return openImage(...parameters)
    }
    await expect(attacher.create({ ...NEW, signal: wanted.signal })).rejects.toThrow()
    expect([machines, hasFolder()]).toEqual([[], false])
  })

  test('that cannot be served leaves no folder, and can be made afterwards', async () => {
    failures = 1
    await expect(attacher.create(NEW)).rejects.toMatchObject({ code: 'DISK_DIED' })
    await expect(attacher.create({ ...NEW, tcp: `${await freePort()}` })).rejects.toMatchObject({ code: 'TLS_INVALID' })
    expect(hasFolder()).toBe(false)
    await attacher.create(NEW)
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
  })
})

describe('a machine that exists', () => {
  let machine: Machine

  beforeEach(async () => {
    machine = await attacher.create(NEW)
    for (let block = 0; block < BLOCKS; block++) {
      const client = await open()
      await client.bytes(block * 65_536, 512)
      await client.disconnect()
    }
    world.online = false
    world.asked.length = 0
  })

  test('goes on as it is, without network, when nothing else is asked for', async () => {
    const { disk } = machine
    const client = await open()
    for (const ref of [undefined, 'grid', 'grid@v1', 'grid:stable']) {
      expect(await attacher.serve(machine, ref === undefined ? { name: 'm' } : { name: 'm', ref })).toBe(false)
    }
    expect(machine.disk).toBe(disk)
    expect((await client.bytes(0, 512)).length).toBe(512)
    await client.disconnect()
    expect(world.asked).toEqual([])
  })

  test('is served again after it was not, without network', async () => {
    await machine.close({ stayAttached: false })
    expect(await attacher.serve(machine, { name: 'm' })).toBe(true)
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
    expect(world.asked).toEqual([])
  })

  test('is no other version, and its data disk no other size', async () => {
    const differs = { code: 'MACHINE_DIFFERS' }
    await expect(attacher.serve(machine, { name: 'm', ref: 'grid@v2' })).rejects.toMatchObject(differs)
    await expect(attacher.serve(machine, { name: 'm', ref: 'other' })).rejects.toMatchObject(differs)
    expect(await attacher.serve(machine, { name: 'm', dataBytes: 2 ** 20 })).toBe(true)
    expect(await attacher.serve(machine, { name: 'm', dataBytes: 2 ** 20 })).toBe(false)
    await expect(attacher.serve(machine, { name: 'm', dataBytes: 2 ** 21 })).rejects.toMatchObject(differs)
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
  })

  test('is served otherwise, but not under a client', async () => {
    const client = await open()
    const request: AttachRequest = { name: 'm', readOnly: true }
    await expect(attacher.serve(machine, request)).rejects.toMatchObject({ code: 'MACHINE_RUNNING' })
    expect((await client.bytes(0, 512)).length).toBe(512)
    await client.disconnect()
    expect(await attacher.serve(machine, request)).toBe(true)
    expect([machine.disk?.readOnly, machine.description.readOnly]).toEqual([true, true])
    // Without a word it stays so.
    expect(await attacher.serve(machine, { name: 'm' })).toBe(false)
  })

  test('that cannot be served otherwise is served as before', async () => {
    failures = 1
    await expect(attacher.serve(machine, { name: 'm', readOnly: true })).rejects.toMatchObject({ code: 'DISK_DIED' })
    expect([machine.disk?.readOnly, machine.description.readOnly]).toEqual([false, false])
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
    // What TLS needs is looked for before the disk is closed.
    const { disk } = machine
    const request = { name: 'm', tcp: `${await freePort()}` }
    await expect(attacher.serve(machine, request)).rejects.toMatchObject({ code: 'TLS_INVALID' })
    expect(machine.disk).toBe(disk)
  })

  test('whose image cannot be opened, or that does not close well, is served as before', async () => {
    const { components, settings } = peer.parts
    const failing = async () => {
      throw new RowanError('STORE_IO', 'injected')
    }
    const images = Object.create(components.images, { open: { value: failing } })
    const request = { name: 'm', readOnly: true }
    const blind = new Attacher({ ...components, images }, settings, { checkRoom() {}, machine: () => expect.fail() })
    await expect(blind.serve(machine, request)).rejects.toMatchObject({ code: 'STORE_IO' })
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
    const { close } = DiskThread.prototype
    const disk = machine.disk!
    disk.close = async () => {
      await close.call(disk)
      return await failing()
    }
    await expect(attacher.serve(machine, request)).rejects.toMatchObject({ code: 'STORE_IO' })
    expect(machine.description).toMatchObject({ attached: true, readOnly: false })
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
  })

  test('whose image was lost asks for its own version, however old', async () => {
    await stopPeer()
    await rm(join(home, 'catalog'), { recursive: true })
    await startPeer()
    const { components, settings } = peer.parts
    const again = new Machine(components, settings, machine.description)
    machines.push(again)
    await expect(attacher.serve(again, { name: 'm' })).rejects.toMatchObject({ code: 'APPLIANCE_UNKNOWN' })
    world.online = true
    world.stable = 'v2'
    world.asked.length = 0
    expect(await attacher.serve(again, { name: 'm' })).toBe(true)
    expect(world.asked).toEqual([`${GRID}@v1`])
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
  })

  test('that was served over TCP is, as before, served at its socket even if its port cannot be had', async () => {
    const port = await freePort()
    await writePskFolder(join(home, 'tls'))
    expect(await attacher.serve(machine, { name: 'm', tcp: `${port}` })).toBe(true)
    expect((await attachAnswer(machine, false)).tcpUri).toBe(`nbds://127.0.0.1:${port}/m`)
    const image = (await peer.parts.components.images.open(world.releases.v1.id))!
    await machine.close({ stayAttached: true })
    await rm(join(home, 'tls'), { recursive: true })
    await machine.openAsBefore(image)
    expect(await firstSector()).toEqual(diskBytes(10).subarray(0, 512))
    expect([machine.servedTcp, machine.description.tcp]).toEqual([undefined, { host: '127.0.0.1', port }])
    expect(peer.log.join('')).toContain('a machine is served at its socket alone')

    // Any other failure is one.
    await machine.close({ stayAttached: true })
    await rm(machine.layers.folder, { recursive: true })
    await expect(machine.openAsBefore(image)).rejects.toMatchObject({ code: 'LAYER_CORRUPT' })
  })
})
