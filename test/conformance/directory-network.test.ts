/** Eight real peers in one process: what they put, find, outlive and refuse together. */

import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Stream, StreamHandler } from '@libp2p/interface'
import type { KadDHT } from '@libp2p/kad-dht'
import { byteStream } from '@libp2p/utils'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PROTOCOL } from '../../src/cluster.ts'
import { kadKey } from '../../src/directory/key.ts'
import {
  MAX_REQUESTS_AT_ONCE,
  MAX_STREAMS_PER_CONNECTION,
  REQUESTS_PER_PEER_BURST
} from '../../src/directory/limits.ts'
import { type Participant, type RealPeer, startNetwork, until } from '../unit/directory/network.ts'
import { imageNumber, TestPublisher } from '../unit/directory/support.ts'

const PEERS = 8

/** The handler that a peer has for the directory's protocol, to put it back later. */
function handlerOf(peer: RealPeer): StreamHandler {
  const { components } = peer as unknown as {
    components: { registrar: { getHandler(p: string): { handler: StreamHandler } } }
  }
  return components.registrar.getHandler(PROTOCOL.directory).handler
}

describe('a network of eight peers', () => {
  let peers: Participant[]
  beforeAll(async () => {
    peers = await startNetwork(PEERS, { replicaTtlMs: 600_000 })
  })
  afterAll(async () => {
    await Promise.all(peers.map(peer => peer.stop()))
  })

  test('a record that one peer puts is kept by all and found by any', async () => {
    const publisher = await TestPublisher.create()
    const latest = await publisher.latest({ issuedMs: Date.now() })
    const put = await peers[0]!.directory.putLatest(latest.bytes)
    expect(put).toEqual({ asked: PEERS, kept: PEERS, refused: [] })
    const found = await peers[5]!.directory.findLatest(latest.appliance)
    expect(found.latest?.digest).toBe(latest.digest)
    expect(found.refused).toEqual([])
    expect(found.failed).toEqual([])
    expect(found.asked).toHaveLength(PEERS)
    expect(found.answered).toBeGreaterThanOrEqual(5)
    expect(peers[5]!.memory.get(latest.appliance)?.latest.sequence).toBe(1)
  })

  test('one answer for the appliance brings its replicas, verified by dialling back', async () => {
    const publisher = await TestPublisher.create()
    const image = imageNumber(77)
    const latest = await publisher.latest({ issuedMs: Date.now(), images: [image] })
    await peers[0]!.directory.putLatest(latest.bytes)
    peers[1]!.directory.announceReplica(image, latest.appliance, true)
    peers[2]!.directory.announceReplica(image, latest.appliance, false)
    const ids = [peers[1]!.id, peers[2]!.id].toSorted()
    await until('both replicas beside the record', async () => {
      const { replicas } = await peers[7]!.directory.findLatest(latest.appliance)
      return JSON.stringify(replicas.map(replica => replica.peer).toSorted()) === JSON.stringify(ids)
    })
    const replicas = await peers[7]!.directory.findReplicas(image)
    expect(replicas.map(replica => replica.peer).toSorted()).toEqual(ids)
    const complete = replicas.find(replica => replica.complete)
    expect(complete?.peer).toBe(peers[1]!.id)
    expect(complete?.addresses).toEqual(peers[1]!.peer.getMultiaddrs().map(String))

    peers[2]!.directory.withdrawReplica(image)
    await until('the withdrawn one to be gone', async () => {
      const left = await peers[7]!.directory.findReplicas(image)
      return left.length === 1 && left[0]?.peer === peers[1]!.id
    })
  })

  test('an older record, offered by every holder, is refused by a peer that has seen a newer one', async () => {
    const publisher = await TestPublisher.create()
    const older = await publisher.latest({ sequence: 1, issuedMs: Date.now() })
    const newer = await publisher.latest({ sequence: 2, issuedMs: Date.now() })
    await peers[0]!.directory.putLatest(older.bytes)
    await peers[6]!.memory.accept(newer, Date.now())
    const found = await peers[6]!.directory.findLatest(older.appliance)
    expect(found.latest).toBeUndefined()
    expect(found.answered).toBe(PEERS)
    expect(found.refused.map(refusal => refusal.code)).toEqual(Array(PEERS).fill('LATEST_ROLLBACK'))
    expect(peers[6]!.memory.get(older.appliance)?.latest.sequence).toBe(2)
    // Holders refuse the older one too, once they have the newer.
    expect((await peers[6]!.directory.putLatest(newer.bytes)).kept).toBe(PEERS)
    const late = await peers[1]!.directory.findLatest(older.appliance)
    expect(late.latest?.sequence).toBe(2)
  })

  test('two records with one number are refused by all who meet both', async () => {
    const publisher = await TestPublisher.create()
    const one = await publisher.latest({ sequence: 4, issuedMs: Date.now(), label: 'one' })
    const other = await publisher.latest({ sequence: 4, issuedMs: Date.now(), label: 'other' })
    await peers[0]!.directory.putLatest(one.bytes)
    const put = await peers[1]!.directory.putLatest(other.bytes)
    expect(put.kept).toBe(0)
    expect(put.refused).toHaveLength(PEERS)
    const found = await peers[3]!.directory.findLatest(one.appliance)
    expect(found.latest).toBeUndefined()
    expect(found.refused.some(refusal => refusal.code === 'LATEST_CONFLICT')).toBe(true)
    const next = await publisher.latest({ sequence: 5, issuedMs: Date.now() })
    await peers[0]!.directory.putLatest(next.bytes)
    expect((await peers[3]!.directory.findLatest(one.appliance)).latest?.sequence).toBe(5)
  })

  test('a stolen release key blocks nobody once the root key has delegated to another', async () => {
    const publisher = await TestPublisher.create()
    const issuedMs = Date.now()
    const stolen = await publisher.latest({
      sequence: Number.MAX_SAFE_INTEGER,
      delegation: 1,
      issuedMs,
      label: 'theft'
    })
    expect((await peers[2]!.directory.putLatest(stolen.bytes)).kept).toBe(PEERS)
    expect((await peers[3]!.directory.findLatest(stolen.appliance)).latest?.digest).toBe(stolen.digest)

    const rotated = await publisher.rotated()
    const healed = await rotated.latest({ sequence: 1, delegation: 2, issuedMs })
    expect(await peers[0]!.directory.putLatest(healed.bytes)).toEqual({ asked: PEERS, kept: PEERS, refused: [] })
    // Whoever had the stolen one, and whoever never saw it.
    for (const peer of [peers[3]!, peers[7]!]) {
      const found = await peer.directory.findLatest(stolen.appliance)
      expect([found.latest?.digest, found.refused]).toEqual([healed.digest, []])
    }
    // The thief comes again: holders refuse, and so do peers that are offered it in another way.
    const thief = peers[2]!
    await expect(thief.directory.putLatest(stolen.bytes)).resolves.toMatchObject({ kept: 0 })
    await expect(peers[3]!.memory.accept(stolen, Date.now())).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' })
  })

  test('a replica that announces an address which is not its own is not counted as reached', async () => {
    const image = imageNumber(88)
    const liar = peers[4]!
    const honest = peers[5]!
    // Another peer's address: somebody answers there, but not the one who announced it.
    const foreign = honest.peer.getMultiaddrs().map(address => address.toString().replace(honest.id, liar.id))
    const real = liar.peer.getMultiaddrs
    liar.peer.getMultiaddrs = () => foreign as never
    try {
      liar.directory.announceReplica(image, undefined, true)
      honest.directory.announceReplica(image, undefined, true)
      await until('both to be found', async () => (await peers[0]!.directory.findReplicas(image)).length === 2)
      const notReached = () =>
        peers[0]!.log.lines.some(
          line => line.message === 'an announced address was not reached' && line.values?.peer === liar.id
        )
      await until('the dial-back to fail', notReached)
      // Whoever was reached comes first, in every answer.
      for (let i = 0; i < 5; i++) {
        const replicas = await peers[0]!.directory.findReplicas(image)
        expect(replicas.map(replica => replica.peer)).toEqual([honest.id, liar.id])
      }
    } finally {
      liar.peer.getMultiaddrs = real
    }
  })

  test('all peers agree who is closest to a key, themselves included', async () => {
    const key = kadKey('replicas', imageNumber(5))
    const options = { signal: AbortSignal.timeout(10_000) }
    const lists = await Promise.all(peers.map(async ({ routing }) => routing.closestPeers(key, options)))
    const orders = lists.map(list => list.map(({ peer }) => peer))
    expect(orders[0]).toHaveLength(PEERS)
    for (const order of orders) expect(order).toEqual(orders[0])
    // The order is kad-dht's own.
    const others: string[] = []
    const dht = peers[2]!.peer.services.dht as KadDHT
    for await (const event of dht.getClosestPeers(key, options)) {
      if (event.name === 'FINAL_PEER') others.push(event.peer.id.toString())
    }
    expect(others).toEqual(orders[0]!.filter(peer => peer !== peers[2]!.id))
  })

  test('holders that keep silent, or talk nonsense, neither delay nor spoil an answer', async () => {
    const publisher = await TestPublisher.create()
    const latest = await publisher.latest({ issuedMs: Date.now() })
    await peers[0]!.directory.putLatest(latest.bytes)
    const silent = peers[1]!.peer
    const babbling = peers[2]!.peer
    const busy = peers[3]!.peer
    const handlers = [silent, babbling, busy].map(peer => ({ peer, handler: handlerOf(peer) }))
    await silent.handle(PROTOCOL.directory, () => new Promise<void>(() => {}), { force: true })
    const babble = (stream: Stream) => void stream.send(Uint8Array.of(5, 255, 255, 255, 255, 255))
    await babbling.handle(PROTOCOL.directory, babble, { force: true })
    const refuse = (stream: Stream) => void stream.send(Uint8Array.of(2, 8, 1))
    await busy.handle(PROTOCOL.directory, refuse, { force: true })
    try {
      const found = await peers[6]!.directory.findLatest(latest.appliance)
      expect(found.latest?.digest).toBe(latest.digest)
      // Nobody waited until the silent one was given up.
      expect(found.failed.map(({ peer }) => peer)).not.toContain(peers[1]!.id)
      // Whoever waits for all learns who failed, and why.
      const put = await peers[6]!.directory.putLatest(latest.bytes)
      expect(put).toMatchObject({ asked: PEERS, kept: PEERS - 3 })
      expect(put.refused.toSorted()).toEqual(
        [
          `${peers[1]!.id}: TIMEOUT_RESPONSE`,
          `${peers[2]!.id}: WIRE_INVALID`,
          `${peers[3]!.id}: DIRECTORY_REFUSED`
        ].toSorted()
      )
    } finally {
      for (const { peer, handler } of handlers) await peer.handle(PROTOCOL.directory, handler, { force: true })
    }
  })

  test('a request that is nonsense, or has no end, hurts nobody but its sender', async () => {
    const [asker, holder] = [peers[3]!, peers[4]!]
    const send = async (bytes: Uint8Array) => {
      const connection = await asker.peer.dial(holder.peer.peerId)
      const stream = await connection.newStream(PROTOCOL.directory)
      stream.send(bytes)
      const answer = await byteStream(stream).read({ signal: AbortSignal.timeout(5000) })
      await stream.close()
      return [...(answer?.subarray() ?? [])]
    }
    // A length of three bytes, and a field that cannot be: the answer has the status 2.
    expect(await send(Uint8Array.of(3, 255, 255, 255))).toEqual([2, 8, 2])
    // A length of half a megabyte.
    await expect(send(Uint8Array.of(128, 128, 32, 1, 2, 3))).rejects.toThrow()
    // Too many requests, however small.
    const answers: string[] = []
    while (answers.length < 2 * REQUESTS_PER_PEER_BURST) {
      const some = await Promise.all(Array.from({ length: 10 }, () => send(Uint8Array.of(0))))
      answers.push(...some.map(answer => answer.join()))
    }
    expect(answers[0]).toBe('0')
    expect(answers).toContain('2,8,1')
    const key = await generateKeyPair('Ed25519')
    expect((await peers[5]!.directory.findLatest(`${key.publicKey}/nothing`)).failed).toEqual([])
  })

  test('a peer that keeps many requests unfinished, over many connections, keeps nobody else waiting', async () => {
    const [flooder, holder, other] = [peers[0]!, peers[1]!, peers[2]!]
    const connections = await Promise.all(
      Array.from({ length: Math.ceil(MAX_REQUESTS_AT_ONCE / MAX_STREAMS_PER_CONNECTION) }, () =>
        flooder.peer.dial(holder.peer.getMultiaddrs(), { force: true })
      )
    )
    try {
      for (const connection of connections) {
        for (let i = 0; i < MAX_STREAMS_PER_CONNECTION; i++) {
          // The first byte of a length, and no more; whom the holder refuses has its answer already.
          const stream = await connection.newStream(PROTOCOL.directory)
          if (stream.status === 'open') stream.send(Uint8Array.of(128))
        }
      }
      const ask = async (asker: Participant) => {
        const connection = await asker.peer.dial(holder.peer.getMultiaddrs(), { force: true })
        const stream = await connection.newStream(PROTOCOL.directory)
        const answer = byteStream(stream).read({ signal: AbortSignal.timeout(5000) })
        if (stream.status === 'open') stream.send(Uint8Array.of(0))
        await answer
        await connection.close()
        return [...((await answer)?.subarray() ?? [])]
      }
      await until('the flooder to be told that it has enough', async () => (await ask(flooder)).join() === '2,8,1')
      expect(await ask(other)).toEqual([0])
    } finally {
      await Promise.all(connections.map(connection => connection.abort(new Error('over'))))
    }
  })

  test('an appliance that nobody knows: says whom it asked', async () => {
    const key = await generateKeyPair('Ed25519')
    const found = await peers[2]!.directory.findLatest(`${key.publicKey}/nothing`)
    expect(found).toMatchObject({ replicas: [], answered: PEERS, refused: [], failed: [] })
    expect(found.latest).toBeUndefined()
    expect(found.asked).toHaveLength(PEERS)
  })
})

describe('a network that loses peers, with short times to live', () => {
  let peers: Participant[]
  beforeAll(async () => {
    peers = await startNetwork(PEERS, { replicaTtlMs: 3000, lookupTimeoutMs: 5000 })
  })
  afterAll(async () => {
    await Promise.all(peers.map(peer => peer.stop()))
  })

  test('records expire, renewals go on, and both survive the death of holders', async () => {
    const publisher = await TestPublisher.create()
    const image = imageNumber(99)
    const latest = await publisher.latest({ images: [image], issuedMs: Date.now(), expiresMs: Date.now() + 12_000 })
    await peers[0]!.directory.putLatest(latest.bytes)
    peers[1]!.directory.announceReplica(image, latest.appliance, true)
    peers[2]!.directory.announceReplica(image, latest.appliance, true)
    const found = async () => (await peers[7]!.directory.findReplicas(image)).map(replica => replica.peer)
    await until('both replicas', async () => (await found()).length === 2)

    await Promise.all([peers[2]!, peers[4]!, peers[5]!].map(peer => peer.stop()))
    await until('the dead replica to expire', async () => !(await found()).includes(peers[2]!.id))
    expect(await found()).toEqual([peers[1]!.id])
    const answer = await peers[7]!.directory.findLatest(latest.appliance)
    expect(answer.latest?.digest).toBe(latest.digest)
    expect(answer.replicas.map(replica => replica.peer)).toEqual([peers[1]!.id])

    await until('the record to expire', async () => Date.now() > latest.expiresMs)
    const late = await peers[6]!.directory.findLatest(latest.appliance)
    expect(late.latest).toBeUndefined()
    expect(late.answered).toBeGreaterThanOrEqual(5)
  })

  test('a replica puts the newest record again where it is missing', async () => {
    const publisher = await TestPublisher.create()
    const image = imageNumber(111)
    const latest = await publisher.latest({ images: [image], issuedMs: Date.now() })
    // Only this peer has it, as if it had come over the swarm.
    await peers[3]!.memory.accept(latest, Date.now())
    expect((await peers[7]!.directory.findLatest(latest.appliance)).latest).toBeUndefined()
    peers[3]!.directory.announceReplica(image, latest.appliance, false)
    await until('the record at the holders', async () => {
      const found = await peers[7]!.directory.findLatest(latest.appliance)
      return found.latest?.digest === latest.digest
    })
  })
})
