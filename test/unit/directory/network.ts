/** Real libp2p peers on loopback, each with a directory, for tests of what peers do together. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { PrivateKey } from '@libp2p/interface'
import { type KadDHT, kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { PROTOCOL } from '../../../src/cluster.ts'
import { ApplianceMemory } from '../../../src/directory/appliance-memory.ts'
import { Directory, type DirectorySettings } from '../../../src/directory/directory.ts'
import { KadRouting } from '../../../src/directory/kad-routing.ts'
import { Pseudonyms } from '../../../src/directory/pseudonyms.ts'
import type { Clock } from '../../../src/environment.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { waitUntil } from '../../tools/wait.ts'
import { recordingLog, seeded } from './support.ts'

const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs)
    timer.unref()
    return { cancel: () => clearTimeout(timer) }
  }
}

function createPeer(privateKey: PrivateKey) {
  return createLibp2p({
    privateKey,
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 100 },
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({
        clientMode: false,
        protocol: PROTOCOL.dht,
        peerInfoMapper: passthroughMapper,
        initialQuerySelfInterval: 0
      })
    }
  })
}

export type RealPeer = Awaited<ReturnType<typeof createPeer>>

/** One peer with all that its directory needs. */
export class Participant {
  readonly peer: RealPeer
  readonly directory: Directory
  readonly memory: ApplianceMemory
  readonly routing: KadRouting
  readonly log: ReturnType<typeof recordingLog>
  readonly #catalog: Catalog
  readonly #folder: string
  #isRunning = true

  static async start(settings: Partial<DirectorySettings> = {}, addresses?: () => string[]): Promise<Participant> {
    const privateKey = await generateKeyPair('Ed25519')
    const peer = await createPeer(privateKey)
    const folder = await mkdtemp(join(tmpdir(), 'rowan-directory-'))
    const catalog = await Catalog.open(join(folder, 'catalog'))
    const log = recordingLog()
    const memory = await ApplianceMemory.open({ catalog, log })
    const own = addresses ?? (() => peer.getMultiaddrs().map(String))
    const id = peer.peerId.toString()
    const dht = peer.services.dht as KadDHT
    const routing = new KadRouting({ dht, peer: id, addresses: own, canServe: () => settings.serve ?? true, log })
    const directory = new Directory(
      {
        network: peer,
        routing,
        catalog,
        memory,
        clock: systemClock,
        random: seeded(1),
        log,
        privateKey,
        addresses: own,
        pseudonyms: new Pseudonyms(await generateKeyPair('Ed25519'))
      },
      { replicaTtlMs: 3_600_000, sharerTtlMs: 1_800_000, keepTtlMs: 86_400_000, serve: true, ...settings }
    )
    await directory.start()
    return new Participant({ peer, directory, memory, routing, log, catalog, folder })
  }

  private constructor(parts: {
    peer: RealPeer
    directory: Directory
    memory: ApplianceMemory
    routing: KadRouting
    log: ReturnType<typeof recordingLog>
    catalog: Catalog
    folder: string
  }) {
    this.peer = parts.peer
    this.directory = parts.directory
    this.memory = parts.memory
    this.routing = parts.routing
    this.log = parts.log
    this.#catalog = parts.catalog
    this.#folder = parts.folder
  }

  get id(): string {
    return this.peer.peerId.toString()
  }

  async stop(): Promise<void> {
    if (!this.#isRunning) return
    this.#isRunning = false
    await this.directory.stop()
    await this.peer.stop()
    await this.#catalog.close()
    await rm(this.#folder, { recursive: true, force: true })
  }
}

/** Starts peers and connects each to the first, until all know each other. */
export async function startNetwork(count: number, settings: Partial<DirectorySettings> = {}): Promise<Participant[]> {
  const participants: Participant[] = []
  for (let i = 0; i < count; i++) participants.push(await Participant.start(settings))
  await connect(participants)
  return participants
}

export async function connect(participants: Participant[]): Promise<void> {
  for (const one of participants) {
    for (const other of participants) {
      if (one !== other && one.id < other.id) await one.peer.dial(other.peer.getMultiaddrs())
    }
  }
  await until('all peers to know each other', () =>
    participants.every(({ peer }) => {
      const dht = peer.services.dht as unknown as { routingTable: { size: number } }
      return dht.routingTable.size >= participants.length - 1
    })
  )
}

/** Waits until `condition` holds, looking often. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  await waitUntil(what, condition, { pollMs: 25 })
}
