/** The serving side without a network: what comes of requests, and of dialling back. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Connection, PrivateKey, Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { REACH } from '../../../src/directory/addresses.ts'
import { DialBack } from '../../../src/directory/dial-back.ts'
import type { DirectoryNetwork } from '../../../src/directory/directory-network.ts'
import { DirectoryService } from '../../../src/directory/directory-service.ts'
import { Holder } from '../../../src/directory/holder.ts'
import { HolderStore } from '../../../src/directory/holder-store.ts'
import {
  MAX_MESSAGE_BYTES,
  MAX_REQUESTS_AT_ONCE_PER_NETWORK,
  MAX_UNVERIFIED_PER_KEY
} from '../../../src/directory/limits.ts'
import { type DirectoryRequest, decodeResponse, encodeResponse } from '../../../src/directory/messages.ts'
import { sealReplica } from '../../../src/directory/replica-record.ts'
import { fromHex } from '../../../src/image/hash.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import {
  FakeClock,
  HOUR_MS,
  imageNumber,
  NOW,
  recordingLog,
  replicaEntry,
  seeded,
  settled,
  TestPublisher
} from './support.ts'

const IMAGE = imageNumber(5)
let folder: string
let catalog: Catalog
let holder: Holder
let service: DirectoryService
/** Who answers at /ip4/9.9.9.9; others are not reached. */
let reachable: Set<string>
let dials: string[]
let key: PrivateKey
let serve: (stream: Stream, connection: Connection) => Promise<void>
let peer: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowan-service-'))
  catalog = await Catalog.open(folder)
  key = await generateKeyPair('Ed25519')
  peer = key.publicKey.toString()
  reachable = new Set()
  dials = []
  const own = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
  const network = {
    peerId: own,
    async handle(_protocol: string, handler: typeof serve) {
      serve = handler
    },
    getConnections: () => [],
    async dial(targets: Multiaddr[]) {
      const id = targets[0]!.getComponents().at(-1)!.value!
      dials.push(id)
      if (!reachable.has(id)) throw new Error('refused')
      return { id: 'c', remotePeer: { toString: () => id }, remoteAddr: targets[0] } as unknown as Connection
    }
  } as unknown as DirectoryNetwork
  const clock = new FakeClock()
  const log = recordingLog()
  holder = new Holder({ random: seeded(1) }, { quotaBytes: 10_000_000 })
  const dialBack = new DialBack({ network, clock, log })
  service = new DirectoryService({ network, holder, store: new HolderStore({ catalog, log }), dialBack, clock, log })
})
afterEach(async () => {
  await settled()
  await catalog.close()
  await rm(folder, { recursive: true, force: true })
})

const put = (table: number, record: Uint8Array): DirectoryRequest => ({
  puts: [{ table, record: new Uint8Array(record) }]
})
const replica = (sequence = 1, signer = key, image = IMAGE) =>
  sealReplica(
    {
      image,
      peer: signer.publicKey.toString(),
      addresses: ['/ip4/9.9.9.9/tcp/1'],
      complete: true,
      sequence,
      expiresMs: NOW + HOUR_MS
    },
    signer
  )
const from = (asker: string) => ({ peer: asker, met: REACH.public })
const held = () => holder.getReplicas(IMAGE, NOW).replicas.map(({ signer, verified }) => ({ signer, verified }))

describe('a replica record that its signer brings', () => {
  test('is kept, and counts as verified once the peer was reached; a renewal dials no more', async () => {
    reachable.add(peer)
    expect((await service.answer(put(2, await replica(1)), from(peer))).outcomes).toEqual(['kept'])
    await settled()
    expect(held()).toEqual([{ signer: peer, verified: true }])
    expect((await service.answer(put(2, await replica(2)), from(peer))).outcomes).toEqual(['kept'])
    expect(held()).toEqual([{ signer: peer, verified: true }])
    expect(dials).toEqual([peer])
  })

  test('stays unverified while nobody is there', async () => {
    await service.answer(put(2, await replica(1)), from(peer))
    await settled()
    expect(held()).toEqual([{ signer: peer, verified: false }])
  })

  test('waits for the dial-back where there is no room for unverified ones', async () => {
    for (let i = 0; i < MAX_UNVERIFIED_PER_KEY; i++) {
      holder.put(replicaEntry({ key: IMAGE, signer: `u${i}`, verified: false }), NOW)
    }
    expect((await service.answer(put(2, await replica(1)), from(peer))).outcomes).toEqual(['pending'])
    await settled()
    expect(held().some(({ signer }) => signer === peer)).toBe(false)
    const other = await generateKeyPair('Ed25519')
    reachable.add(other.publicKey.toString())
    expect((await service.answer(put(2, await replica(1, other)), from(other.publicKey.toString()))).outcomes).toEqual([
      'pending'
    ])
    await settled()
    expect(held()).toContainEqual({ signer: other.publicKey.toString(), verified: true })
  })
})

describe('a replica record that somebody else brings', () => {
  test('counts only after its signer was reached', async () => {
    const stranger = (await generateKeyPair('Ed25519')).publicKey.toString()
    expect((await service.answer(put(2, await replica(1)), from(stranger))).outcomes).toEqual(['pending'])
    expect(held()).toEqual([])
    await settled()
    expect(held()).toEqual([])
  })

  test('is kept when its signer is there', async () => {
    reachable.add(peer)
    const stranger = (await generateKeyPair('Ed25519')).publicKey.toString()
    await service.answer(put(2, await replica(1)), from(stranger))
    await settled()
    expect(held()).toEqual([{ signer: peer, verified: true }])
  })
})

describe('the answers', () => {
  test('say why a record was not opened', async () => {
    const spoiled = await replica()
    spoiled[spoiled.length - 3]! ^= 1
    const { outcomes } = await service.answer(
      { puts: [...put(2, spoiled).puts, ...put(1, Uint8Array.of(1, 2, 3)).puts] },
      from(peer)
    )
    expect(outcomes).toEqual(['SIGNATURE_INVALID', 'RECORD_INVALID'])
  })

  test('leave out the record that the asker knows, but not its replicas', async () => {
    const publisher = await TestPublisher.create()
    const latest = await publisher.latest({ images: [IMAGE] })
    expect((await service.answer(put(1, latest.bytes), from(peer))).outcomes).toEqual(['kept'])
    expect((await service.answer(put(1, latest.bytes), from(peer))).outcomes).toEqual(['known'])
    await service.answer(put(2, await replica()), from(peer))
    const ask = async (knownDigest: Uint8Array<ArrayBuffer>) => {
      const query = { appliance: latest.appliance, knownDigest, second: false }
      return (await service.answer({ puts: [], latest: query }, from('asker'))).latest!
    }
    const fresh = await ask(new Uint8Array(0))
    expect(Buffer.compare(fresh.record, latest.bytes)).toBe(0)
    const known = await ask(new Uint8Array(fromHex(latest.digest)))
    expect([known.same, known.record.byteLength, known.replicas.length]).toEqual([true, 0, 1])
  })

  test('do not name the asker as a replica to itself', async () => {
    await service.answer(put(2, await replica()), from(peer))
    const ask = (asker: string) =>
      service.answer({ puts: [], replicas: { image: new Uint8Array(fromHex(IMAGE)) } }, from(asker))
    expect((await ask(peer)).replicas?.replicas).toHaveLength(0)
    expect((await ask('somebody')).replicas?.replicas).toHaveLength(1)
  })

  test('fit into a message, however much is asked for at once', async () => {
    const publisher = await TestPublisher.create()
    const images = Array.from({ length: 500 }, (_, i) => imageNumber(i + 1))
    const latest = await publisher.latest({ images, label: 'x'.repeat(200) })
    expect(latest.bytes.byteLength).toBeGreaterThan(230_000)
    await service.answer(put(1, latest.bytes), from(peer))
    for (let i = 0; i < 200; i++) {
      holder.put(replicaEntry({ key: imageNumber(500), signer: `p${i}`, sizeBytes: 2048 }), NOW)
    }
    const response = await service.answer(
      {
        puts: [],
        latest: { appliance: latest.appliance, knownDigest: new Uint8Array(0), second: false },
        replicas: { image: new Uint8Array(fromHex(imageNumber(500))) }
      },
      from(peer)
    )
    const bytes = encodeResponse(response)
    expect(bytes.byteLength).toBeLessThanOrEqual(MAX_MESSAGE_BYTES)
    expect(decodeResponse(bytes).latest?.replicas).toHaveLength(32)
    expect(decodeResponse(bytes).replicas?.replicas.length).toBeLessThan(32)
  })
})

describe('those who ask and do not go on', () => {
  /** A stream whose other end says nothing, and what it is told. */
  class SilentStream extends EventTarget {
    readonly status = 'open'
    readonly writeStatus = 'writable'
    readonly remoteWriteStatus = 'writable'
    readonly readBufferLength = 0
    readonly log = Object.assign(() => undefined, { error() {}, trace() {} })
    answers = 0

    send() {
      this.answers++
      return true
    }
    async close() {}
    abort() {}
    push() {}
    async closeRead() {}
    pause() {}
    resume() {}
  }

  async function refused(addresses: string[]): Promise<number> {
    const streams = addresses.map((address, n) => {
      const stream = new SilentStream()
      const remotePeer = { toString: () => `${address} ${n}` }
      void serve(stream as unknown as Stream, { remotePeer, remoteAddr: multiaddr(address) } as unknown as Connection)
      return stream
    })
    await settled()
    return streams.filter(({ answers }) => answers > 0).length
  }

  test('keep others waiting only as far as one network may, whatever they are called', async () => {
    await service.start()
    const many = Array.from({ length: MAX_REQUESTS_AT_ONCE_PER_NETWORK + 3 }, (_, n) => `/ip4/9.9.9.${n + 1}/tcp/1`)
    expect(await refused(many)).toBe(3)
    expect(await refused(['/ip4/9.9.8.1/tcp/1', '/ip6/2a00:1:2:3::4/tcp/1'])).toBe(0)
    expect(await refused(many.slice(3).map((_, n) => `/ip4/192.168.1.${n + 1}/tcp/1`))).toBe(0)
  })
})
