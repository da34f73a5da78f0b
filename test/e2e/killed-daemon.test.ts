/**
 * `rowan up` is killed under a guest's client that stays: QEMU's NBD client with `reconnect-delay`, as `rowan run` sets it.
 *
 * The test is the guest. It talks to a qemu-storage-daemon, whose own connection to the daemon breaks and comes back, so
 * a request that was under way when the daemon died is not lost but late.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { COMMAND } from '../../src/nbd/protocol.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { NbdClient } from '../tools/nbd-client.ts'
import { describeWithTools } from '../tools/need.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses, start } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const MIB = 1024 * 1024
const SIZE_BYTES = 16 * MIB
const SECTOR_BYTES = 512
const BLOCK_BYTES = 64 * 1024
const KILLS = 5
const CHANGES_BETWEEN_KILLS = 400
const AT_ONCE = 8
const MAX_SECTORS = 64
/** A restart on a busy machine, and what QEMU waits before it tries again. */
const ANSWER_TIMEOUT_MS = 90_000

let blackHole: BlackHole | undefined
let guest: NbdClient | undefined

afterEach(async () => {
  guest?.destroy()
  await endProcesses()
  await blackHole?.close()
  blackHole = undefined
  await removeFolders()
})

/** A publisher, and a peer with a machine of which only what the guest reads is here. */
async function machineOfTwoPeers() {
  const folder = await temporaryFolder()
  const path = join(folder, 'tiny.raw')
  await makeTinyAppliance(path, { sizeBytes: SIZE_BYTES })
  const publisher = await Peer.start()
  await publisher.json(['publish', path, 'tiny@v1'])
  const consumer = await Peer.start({ bootstrap: [publisher] })
  const { uri } = await consumer.json(['attach', `${publisher.publisher}/tiny`, '--as', 'tiny'])
  return { publisher, consumer, uri, image: await readFile(path), socket: new URL(uri).searchParams.get('socket')! }
}

/** The guest's side of a QEMU that waits for its disk. */
async function guestOf(uri: string, socket: string): Promise<NbdClient> {
  const forGuest = join(await temporaryFolder(), 'qemu')
  const qemu = start('qemu-storage-daemon', [
    '--blockdev',
    `driver=nbd,node-name=disk,server.type=unix,server.path=${socket},export=${new URL(uri).pathname.slice(1)},reconnect-delay=120`,
    '--nbd-server',
    `addr.type=unix,addr.path=${forGuest}`,
    '--export',
    'type=nbd,id=export,node-name=disk,name=disk,writable=on'
  ])
  const isListening = () => {
    if (qemu.exit !== undefined) throw new Error(`QEMU left\n${qemu.tail()}`)
    return existsSync(forGuest)
  }
  await waitUntil('QEMU to listen', isListening)
  guest = await NbdClient.open(forGuest, 'disk')
  guest.answerTimeoutMs = ANSWER_TIMEOUT_MS
  return guest
}

/** Takes connections under another's address and never says a word. */
class BlackHole {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #wasCalled = false

  private constructor(onFirstCall: () => void) {
    this.#server = createServer(socket => {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      if (!this.#wasCalled) onFirstCall()
      this.#wasCalled = true
    })
  }

  static async listen(multiaddr: string, onFirstCall: () => void): Promise<BlackHole> {
    const port = Number(/\/tcp\/(\d+)/.exec(multiaddr)?.[1])
    const hole = new BlackHole(onFirstCall)
    await new Promise<void>((resolve, reject) => {
      hole.#server.once('error', reject).listen(port, '127.0.0.1', resolve)
    })
    return hole
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise(resolve => this.#server.close(resolve))
  }
}

describeWithTools('a killed daemon', ['qemu-storage-daemon'], () => {
  test('answers its guest before it calls any peer, and though none ever answers', { timeout: 300_000 }, async () => {
    const { publisher, consumer, uri, image, socket } = await machineOfTwoPeers()
    const guest = await guestOf(uri, socket)
    const written = Buffer.alloc(3 * SECTOR_BYTES, 0xa5)
    const [fetchedAt, writtenAt, absentAt] = [2 * BLOCK_BYTES, 5 * BLOCK_BYTES + SECTOR_BYTES, 90 * BLOCK_BYTES]
    expect(await guest.bytes(fetchedAt, 4096)).toEqual(image.subarray(fetchedAt, fetchedAt + 4096))
    expect((await guest.request(COMMAND.WRITE, { offset: writtenAt, data: written })).errno).toBe(0)

    await publisher.kill()
    await consumer.kill()
    // Under way while there is nobody: the guest asks for what it wrote and for what was fetched.
    const answers = Promise.all([guest.bytes(writtenAt, written.length), guest.bytes(fetchedAt, 4096)])
    // At the first call of a peer the disk must be served: a read that begins then and finds nobody who listens fails.
    let servedAtFirstCall: Promise<Buffer | Error> | undefined
    blackHole = await BlackHole.listen(publisher.addresses[0]!, () => {
      servedAtFirstCall = readOnce(socket, new URL(uri).pathname.slice(1), writtenAt, written.length)
    })
    await consumer.up()
    const [own, fetched] = await answers
    expect(own).toEqual(written)
    expect(fetched).toEqual(image.subarray(fetchedAt, fetchedAt + 4096))
    await waitUntil('the daemon to call a peer', () => servedAtFirstCall)
    expect(await servedAtFirstCall).toEqual(written)
    expect((await consumer.json(['status'])).peers).toBe(0)

    // What never was here waits, and holds up nothing. (Not asked for before: QEMU 7.2, when it comes back with several
    // reads, was seen to send one and wait for its answer.)
    const absent = guest.bytes(absentAt, 4096).then(
      () => 'answered',
      () => 'never answered'
    )
    expect(await guest.bytes(writtenAt, written.length)).toEqual(written)
    guest.destroy()
    expect(await absent).toBe('never answered')
  })

  test('again and again, among random writes, loses nothing that it acknowledged', { timeout: 600_000 }, async () => {
    const { consumer, uri, image, socket } = await machineOfTwoPeers()
    const guest = await guestOf(uri, socket)
    const model = Buffer.from(image)
    const random = randomRow(20_261_125)
    const busy = new Set<number>()
    let acknowledged = 0
    let isOver = false

    /** A range that no other change of this moment touches. */
    const reserve = (): { first: number; count: number } => {
      for (;;) {
        const count = 1 + Math.floor(random() * MAX_SECTORS)
        const first = Math.floor(random() * (SIZE_BYTES / SECTOR_BYTES - count))
        const sectors = Array.from({ length: count }, (_, index) => first + index)
        if (sectors.some(sector => busy.has(sector))) continue
        for (const sector of sectors) busy.add(sector)
        return { first, count }
      }
    }
    const writer = async () => {
      while (!isOver) {
        const { first, count } = reserve()
        const [offset, length] = [first * SECTOR_BYTES, count * SECTOR_BYTES]
        const kind = random()
        const expected = model.subarray(offset, offset + length)
        if (kind < 0.25) {
          const found = await guest.bytes(offset, length)
          if (!found.equals(expected)) throw new Error(`${count} sectors at ${first} are not what was acknowledged`)
        } else if (kind < 0.35) {
          const { errno } = await guest.request(COMMAND.WRITE_ZEROES, { offset, length })
          if (errno !== 0) throw new Error(`zeroes failed with ${errno}`)
          expected.fill(0)
        } else {
          const data = Buffer.alloc(length, Math.floor(random() * 256))
          data.writeUInt32LE(acknowledged)
          const { errno } = await guest.request(COMMAND.WRITE, { offset, data })
          if (errno !== 0) throw new Error(`a write failed with ${errno}`)
          data.copy(expected)
        }
        if (random() < 0.02 && (await guest.request(COMMAND.FLUSH)).errno !== 0) throw new Error('a flush failed')
        for (let sector = first; sector < first + count; sector++) busy.delete(sector)
        acknowledged++
      }
    }

    let failure: unknown
    const writers = Array.from({ length: AT_ONCE }, () =>
      writer().catch(error => {
        failure ??= error
      })
    )
    for (let kills = 0; kills <= KILLS; kills++) {
      const enough = acknowledged + CHANGES_BETWEEN_KILLS
      const isEnough = () => failure !== undefined || acknowledged >= enough
      await waitUntil(`${enough} changes`, isEnough, { timeoutMs: 120_000, details: () => consumer.process.tail() })
      if (failure !== undefined) throw failure
      if (kills === KILLS) break
      await consumer.kill()
      expect(busy.size).toBeGreaterThan(0)
      await consumer.up()
    }
    isOver = true
    await Promise.all(writers)
    if (failure !== undefined) throw failure

    // And once more for the next daemon, of which QEMU knows nothing yet.
    await consumer.kill()
    await consumer.up()
    for (let offset = 0; offset < SIZE_BYTES; offset += MIB) {
      const found = await guest.bytes(offset, MIB)
      if (!found.equals(model.subarray(offset, offset + MIB))) throw new Error(`the MiB at ${offset} is another`)
    }
  })
})

/** A read over a connection of its own; the error in place of the bytes where nobody serves. */
async function readOnce(socket: string, name: string, offset: number, length: number): Promise<Buffer | Error> {
  try {
    const client = await NbdClient.open(socket, name)
    const bytes = await client.bytes(offset, length)
    client.destroy()
    return bytes
  } catch (error) {
    return error as Error
  }
}

/** A linear congruential generator (Numerical Recipes); good enough to choose. */
function randomRow(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
