/**
 * The daemon: one peer, assembled from the rooms, from its first lock to its last sync.
 *
 * The order of the start is a promise. The store is opened first, which takes the lock of the home; then machines that
 * were attached are served again, from what is here; only then are other peers looked for. So a daemon that restarts
 * under a running guest answers it before, and whether or not, it finds anybody. The stop runs the same list backwards.
 *
 * Owns: the order. Does not own: any work, which is in the rooms; what the commands do is in commands.ts.
 */
import { resolve } from 'node:path'
import { REACH, reachMet } from '../directory/addresses.ts'
import { ApplianceMemory } from '../directory/appliance-memory.ts'
import { Directory } from '../directory/directory.ts'
import { KadRouting } from '../directory/kad-routing.ts'
import { Pseudonyms } from '../directory/pseudonyms.ts'
import { asRowanError, type RowanError } from '../errors.ts'
import { kvmIsFaster } from '../machine/accelerator.ts'
import type { StartThread } from '../machine/disk-thread.ts'
import { kvmUsable } from '../machine/guest.ts'
import { Machines } from '../machine/machines.ts'
import { newCounter } from '../nbd/shared-memory.ts'
import { Appliances } from '../release/appliances.ts'
import { CollectionPolls } from '../release/collection-polls.ts'
import { Collector } from '../release/collector.ts'
import { Publisher } from '../release/publisher.ts'
import { PublisherKeys } from '../release/publisher-keys.ts'
import { ReplicaWatch } from '../release/replica-watch.ts'
import { Replication } from '../release/replication.ts'
import { Trash } from '../release/trash.ts'
import { Catalog } from '../store/catalog.ts'
import { Images } from '../store/images.ts'
import { PartFiles } from '../store/part-files.ts'
import { Pool } from '../store/pool.ts'
import { Profiles } from '../store/profiles.ts'
import { Sweeper } from '../store/sweeper.ts'
import { KnownLiars } from '../swarm/known-liars.ts'
import { isWebSeed, Swarm, type TrafficLimits } from '../swarm/swarm.ts'
import { bootRecorder, type ImageUses, profileExchange } from './boot-profiles.ts'
import { commands } from './commands.ts'
import { pruneCompiled } from './compiled-folder.ts'
import { ControlServer } from './control-server.ts'
import { commandTable, type DaemonOptions, type RunningDaemon } from './daemon-api.ts'
import { startDiskThread } from './disk-thread.ts'
import { checkAddresses } from './given-addresses.ts'
import { GreetingRecords } from './greeting-records.ts'
import { makeHome } from './home.ts'
import { HttpNetwork } from './http-network.ts'
import { Network } from './join.ts'
import { JoinedRouting } from './joined-routing.ts'
import { hearsItsNetwork, Lan } from './lan.ts'
import { Nat } from './nat.ts'
import { Neighbourhood } from './neighbourhood.ts'
import { startPeer } from './peer.ts'
import { checkPeer } from './peer-checks.ts'
import { loadPeerKey } from './peer-key.ts'
import { QuotaKeeper } from './quota-keeper.ts'
import { mostUsefulFirst, type ServeSituation, servesAtStart, serveWhenReachable } from './reachability.ts'
import type { RelaySettings } from './relay-server.ts'
import type { Settings } from './settings.ts'
import { donatedImages, isNeeded, stayReasons } from './stay-reasons.ts'
import { readBootId, systemClock, systemRandom } from './system.ts'
import { localMinute, Traffic } from './traffic.ts'

/** Connections of libp2p: those of the swarm, of the directory, and room for lookups. */
const MAX_CONNECTIONS = 300

/** What was started and must be stopped, last first. */
class Started {
  readonly #stops: { what: string; stop: () => unknown }[] = []

  add(what: string, stop: () => unknown): void {
    this.#stops.push({ what, stop })
  }

  /** Stops everything; one that fails does not keep the others from stopping. Returns the first failure. */
  async stop(): Promise<RowanError | undefined> {
    let failure: RowanError | undefined
    for (const { what, stop } of this.#stops.splice(0).reverse()) {
      try {
        await stop()
      } catch (error) {
        failure ??= asRowanError(error, 'INTERNAL', `cannot stop ${what}`)
      }
    }
    return failure
  }
}

/**
 * Starts the daemon of a home.
 *
 * @throws HOME_IN_USE, HOME_UNUSABLE, SOCKET_PATH_TOO_LONG, CATALOG_CORRUPT, KEY_INVALID, LISTEN_FAILED, CONFIG_INVALID;
 *   whatever was started by then is stopped again
 */
export async function startDaemon(options: DaemonOptions): Promise<RunningDaemon> {
  const started = new Started()
  try {
    return await assemble(options, started)
  } catch (error) {
    const failure = await started.stop()
    if (failure !== undefined) options.log.warn('stopping after a failed start', { error: failure })
    throw asRowanError(error)
  }
}

async function assemble({ home, settings, log, version }: DaemonOptions, started: Started): Promise<RunningDaemon> {
  const clock = systemClock
  const random = systemRandom
  checkAddresses(settings.network)
  makeHome(home.directory)
  pruneCompiled(home.compiled).catch((error: unknown) =>
    log.warn('compiled code could not be looked through', { error })
  )

  // What this peer has.
  const catalog = await Catalog.open(home.catalog)
  started.add('the catalog', () => catalog.close())
  const { quotaBytes } = settings.pool
  const pool = await Pool.open({ directory: home.pool, catalog, log }, { quotaBytes })
  started.add('the pool', () => pool.close())
  const images = new Images({ catalog, pool, log })
  started.add('the images', () => images.close())
  const parts = new PartFiles({ catalog, random, log })
  const profiles = await Profiles.open(catalog)
  const memory = await ApplianceMemory.open({ catalog, log })
  const quota = new QuotaKeeper({ pool, images, memory, clock, log })
  started.add('the eviction', () => quota.stop())
  const keys = await PublisherKeys.open(home.keys, { clock, log })
  const privateKey = await loadPeerKey(home.keys)
  const pseudonyms = new Pseudonyms(await loadPeerKey(home.keys, 'sharer'))

  // The peer listens, and meets nobody yet.
  const { listen, announce, bootstrap } = settings.network
  const situation: ServeSituation = { policy: settings.directory.serve, listen, announce, bootstrap }
  const dhtServer = servesAtStart(situation)
  const neighbourhood = new Neighbourhood()
  const mayDial = (address: string) => neighbourhood.mayDial(address)
  const lan = new Lan({ neighbourhood, log })
  const hearsNeighbours = settings.network.lan === 'on' && hearsItsNetwork(listen)
  const onNeighbour = hearsNeighbours ? lan.found.bind(lan) : undefined
  const nat = new Nat(
    { clock, random, log },
    {
      situation,
      useRelays: settings.network.relays === 'on',
      mapPort: settings.network.portMapping === 'on',
      relay: relaySettings(settings.relay)
    }
  )
  const peer = await startPeer({
    privateKey,
    listen,
    announce,
    dhtServer,
    maxPeers: MAX_CONNECTIONS,
    mayDial,
    onNeighbour,
    nat
  })
  peer.addEventListener('connection:open', ({ detail }) => neighbourhood.met(detail.remoteAddr.toString()))
  started.add('the peer', () => peer.stop())
  nat.start(peer)
  started.add('the ways to be reached', () => nat.stop())
  const network = new Network({ peer, neighbourhood, catalog, clock, log }, { bootstrap })
  const addresses = () => mostUsefulFirst(peer.getMultiaddrs().map(String))
  const self = peer.peerId.toString()
  const { dht } = peer.services
  const kad = new KadRouting({ dht, peer: self, addresses, canServe: () => dht.getMode() === 'server', log })
  const routing = new JoinedRouting({ routing: kad, network })
  const { replicaTtlMs, sharerTtlMs, keepTtlMs, memoryBytes: holderBytes } = settings.directory
  const directory = new Directory(
    {
      ...{ network: peer, routing, catalog, memory, clock, random, log, privateKey, pseudonyms, addresses },
      replicas: image => replicasOf(swarm, image)
    },
    {
      ...{ replicaTtlMs, sharerTtlMs, keepTtlMs, holderBytes },
      serve: situation.policy !== 'never' && listen.length > 0
    }
  )
  const liars = await KnownLiars.open({ catalog, clock, log })
  const uses: ImageUses = {
    isReleasedHere: image => publisher.own().some(({ releases }) => releases.some(release => release.image === image)),
    isReplicated: image => replication.has(image)
  }
  const http = new HttpNetwork({ mayDial, clock })
  started.add('the calls of web seeds', () => http.stop())
  const exchange = profileExchange(profiles, uses, settings.swarm.shareProfile)
  const swarm: Swarm = new Swarm(
    {
      liars,
      network: peer,
      images,
      pool,
      findReplicas: (image, options) => directory.findReplicas(image, options),
      neighbours: () => lan.replicas(),
      records: new GreetingRecords({ memory, directory, clock, log }),
      profiles: exchange,
      mayDial: address => mayDial(address.toString()),
      isNear: address => reachMet(address.toString()) !== REACH.public,
      web: { network: http, seedsOf: image => webSeedsOf(image, memory) },
      isDonated: image => donatedImages({ replication, publisher }).has(image),
      clock,
      random,
      log
    },
    { maxPeers: settings.swarm.maxPeers }
  )
  const minuteOfDay = () => localMinute(clock)
  const limited = {
    limit(limits: TrafficLimits) {
      swarm.limit(limits)
      nat.setQuiet(limits.quiet)
    }
  }
  const traffic = await Traffic.open({ catalog, swarm: limited, minuteOfDay, clock, log }, settings.swarm)
  started.add('the limits of traffic', () => traffic.stop())

  const bootId = readBootId()
  const kvm = async () => kvmUsable() && (await kvmIsFaster({ clock, log }, { file: home.accelerator, bootId }))
  const recordBoot = bootRecorder(
    { images, profiles, kvm, disk: { pool, source: swarm, clock, log, bootId } },
    { temporaryFolder: home.tmp, socketFolder: home.nbdSockets }
  )

  // What its owner does with it.
  const publisher = await Publisher.open(
    { keys, catalog, pool, images, directory, memory, clock, log, recordBoot },
    { latestTtlMs: settings.directory.latestTtlMs, temporaryFolder: home.tmp }
  )
  const publisherId = () => keys.publisher
  const appliances = await Appliances.open({ catalog, memory, directory, publisherId, peerId: self, clock, log })
  const isServedAnyway = (image: string) =>
    machines.images().has(image) || publisher.own().some(({ releases }) => releases.some(own => own.image === image))
  const replication = await Replication.open({ catalog, swarm, pool, directory, isServedAnyway, clock, log })
  const { layerQuotaBytes } = settings.machine
  const threads = { compiledFolder: home.compiled, allMemory: newCounter() }
  const startThread: StartThread = input => startDiskThread(input, threads)
  const machines = new Machines(
    { appliances, swarm, images, pool, parts, startThread, profiles, directory, clock, random, log },
    {
      folder: home.machines,
      socketFolder: home.nbdSockets,
      tlsFolder: resolve(home.directory, settings.nbd.tlsFolder),
      bootId,
      layerQuotaBytes
    }
  )

  // What goes when nobody uses it any more.
  const stayRooms = { machines, replication, publisher }
  const stay = { reasons: () => stayReasons({ ...stayRooms, trash }, memory, () => false) }
  const sweeper = new Sweeper({ pool, images, stay, log })
  const isNeededHere = (image: string, going?: ReadonlySet<string>) => isNeeded(image, stayRooms, memory, going)
  const trash: Trash = await Trash.open(
    {
      ...{ catalog, sweeper, swarm, directory, clock, log },
      images: {
        open: id => images.open(id),
        forget: (id, more) => images.forget(id, () => [...profiles.forgetOps(id), ...more()])
      },
      isNeeded: image => isNeededHere(image)
    },
    { keepMs: sharerTtlMs }
  )
  const graceMs = settings.gc.graceMs
  const polls = await CollectionPolls.open(
    { catalog, directory, publisher, clock, random, log },
    { graceMs, runningTtlMs: sharerTtlMs }
  )
  const collector = new Collector(
    { polls, trash, sweeper, publisher, publisherId, machines, replication, isNeeded: isNeededHere, log },
    { graceMs, runningTtlMs: sharerTtlMs, automatic: settings.gc.automatic }
  )
  const replicaWatch = new ReplicaWatch(
    { replication, directory, memory, machines, trash, clock, random, log },
    { runningTtlMs: sharerTtlMs }
  )

  // At the end the machines go first: a guest that loses its disk waits, one whose reads fail does not.
  started.add('the directory', () => directory.stop())
  started.add('the swarm', () => swarm.stop())
  started.add('the machines', () => machines.stop())

  // Machines first, then the world.
  await machines.restore()
  await directory.start()
  await swarm.start()
  const onAddresses = watchAddresses(addresses, () => directory.addressesChanged())
  peer.addEventListener('self:peer:update', onAddresses)
  started.add('the watch on addresses', () => peer.removeEventListener('self:peer:update', onAddresses))
  void parts.sweep()
  lan.start(peer)
  network.start()
  started.add('the search for peers', () => network.stop())
  started.add('the watch on reachability', serveWhenReachable(peer, situation, log))
  publisher.start()
  started.add('the publisher', () => publisher.stop())
  replication.start()
  started.add('the replication', () => replication.stop())
  quota.start({ ...stayRooms, trash, directory })
  trash.start()
  started.add('the trash', () => trash.stop())
  replicaWatch.start()
  started.add('the watch on replicated releases', () => replicaWatch.stop())
  collector.start()
  started.add('the collection', () => collector.stop())

  const rooms = {
    ...{
      peer,
      pool,
      images,
      parts,
      profiles,
      profileToShare: (image: string) => exchange.toShare(image),
      directory,
      memory,
      swarm,
      keys,
      publisher,
      appliances,
      replication,
      machines,
      collector,
      polls,
      clock,
      log,
      addresses
    },
    nat,
    doctor: async () => checkPeer({ peer, pool, quotaBytes, reachability: nat.state() }),
    ...{ quotaBytes, quota, traffic }
  }
  const control = new ControlServer(
    { commands: commandTable(commands(rooms)), log },
    { socketPath: home.controlSocket, version }
  )
  await control.start()
  started.add('the control socket', () => control.stop())

  return {
    peer: self,
    publisher: keys.publisher,
    addresses: addresses(),
    control: home.controlSocket,
    async stop() {
      const failure = await started.stop()
      if (failure !== undefined) throw failure
    }
  }
}

function relaySettings({
  reservations,
  blocks,
  maxCircuitBytes,
  maxRateBytesPerSecond
}: Settings['relay']): RelaySettings {
  const limits = { maxBytes: maxCircuitBytes, maxBytesPerSecond: maxRateBytesPerSecond }
  return { maxReservations: reservations, ...(blocks ? { blocks: limits } : {}) }
}

/** Calls `changed` only for another list: libp2p also tells of every protocol. */
function watchAddresses(addresses: () => string[], changed: () => void): () => void {
  let before = addresses().join()
  return () => {
    const now = addresses().join()
    if (now !== before) changed()
    before = now
  }
}

/** Those of the connected replicas that serve an image; how to reach them libp2p knows. */
function replicasOf(swarm: Swarm, image: string): { peer: string; addresses: string[] }[] {
  const serving = swarm.peers().filter(({ peer, images }) => images.includes(image) && !isWebSeed(peer))
  return serving.map(({ peer }) => ({ peer, addresses: [] }))
}

/** Those that any known release of an image names. */
function webSeedsOf(image: string, memory: ApplianceMemory): string[] {
  const releases = memory.all().flatMap(({ latest }) => latest.releases.filter(release => release.image === image))
  return [...new Set(releases.flatMap(({ webSeeds = [] }) => webSeeds))]
}
