/**
 * What each command of the control socket does: finds the room, asks it, puts the answer into the words of the contract
 * (daemon-api.ts). No decisions are taken here.
 */
import type { ApplianceMemory } from '../directory/appliance-memory.ts'
import type { Directory } from '../directory/directory.ts'
import { DISK_NAMES } from '../disk/chain.ts'
import type { Clock, Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { checkName, parseApplianceRef } from '../image/names.ts'
import { EXPORT_FORMATS } from '../machine/disk-export.ts'
import type { MachineState } from '../machine/machine-state.ts'
import type { Machines } from '../machine/machines.ts'
import { ROUND_TRIP_BUDGET } from '../machine/start-trace.ts'
import type { Appliances } from '../release/appliances.ts'
import type { CollectionPolls } from '../release/collection-polls.ts'
import type { Collector } from '../release/collector.ts'
import type { Publisher } from '../release/publisher.ts'
import type { PublisherKeys } from '../release/publisher-keys.ts'
import { listReleases } from '../release/releases.ts'
import type { Replication } from '../release/replication.ts'
import { exportWeb } from '../release/web-export.ts'
import type { Images } from '../store/images.ts'
import type { PartFiles } from '../store/part-files.ts'
import type { Pool } from '../store/pool.ts'
import type { Profiles } from '../store/profiles.ts'
import type { Swarm, Transferred } from '../swarm/swarm.ts'
import type { DoctorRow, MachineStatus, StatusResult } from './command-results.ts'
import type { Handlers } from './daemon-api.ts'
import { keyResult } from './key-result.ts'
import type { Nat } from './nat.ts'
import type { RowanPeer } from './peer.ts'
import { describeReachability } from './peer-checks.ts'
import type { QuotaKeeper } from './quota-keeper.ts'
import type { Traffic } from './traffic.ts'

export interface Rooms {
  peer: RowanPeer
  pool: Pool
  images: Images
  parts: PartFiles
  profiles: Profiles
  /** The encoded boot profile of an image that others may have. */
  profileToShare(image: string): Uint8Array | undefined
  directory: Directory
  memory: ApplianceMemory
  swarm: Swarm
  keys: PublisherKeys
  publisher: Publisher
  appliances: Appliances
  replication: Replication
  machines: Machines
  collector: Collector
  polls: CollectionPolls
  clock: Clock
  log: Log
  addresses: () => string[]
  doctor: () => Promise<DoctorRow[]>
  quotaBytes: number
  quota: QuotaKeeper
  traffic: Traffic
  nat: Nat
}

export function commands(rooms: Rooms): Handlers {
  const { publisher, appliances, replication, machines, keys, memory } = rooms
  return {
    async publish(params, { signal, progress }) {
      const answer = await publisher.publish({
        ...params,
        signal,
        onProgress: ({ phase, done, of }) =>
          progress(
            phase === 'hash'
              ? { phase: 'hashing', done, of, unit: 'bytes' }
              : {
                  phase: { convert: 'converting', record: 'recording a boot', announce: 'announcing' }[phase],
                  done: (100 * done) / of,
                  of: 100,
                  unit: 'percent'
                }
          )
      })
      return answer
    },

    async replicate({ appliance: ref, wait = false, allowExpired = false }, { signal, progress }) {
      const { appliance, release, similar, replicas } = await appliances.resolve(ref, { allowExpired, signal })
      await rooms.profiles.expect(release.image, { hash: release.profile, similar })
      const what = { appliance, version: release.version, image: release.image }
      return replication.replicate(what, replicas, {
        wait,
        signal,
        onProgress: (done, of) => progress({ phase: 'fetch', done, of, unit: 'blocks' })
      })
    },

    async 'replicate-end'({ appliance: text }) {
      const ref = parseApplianceRef(text)
      if (ref.channel !== undefined)
        throw new RowanError('USAGE', 'name a version, or none for all of them; a channel is not what was promised')
      const appliance = appliances.resolveName(ref)
      const ended = await replication.end(appliance, ref.version)
      rooms.quota.reconsider()
      return { appliance, ended: ended.map(({ version, image }) => ({ version, image })) }
    },

    async attach({ machine, appliance, readOnly, allowExpired = false, dataDisk, tcp }, { signal }) {
      return machines.attach({
        name: machine,
        allowExpired,
        signal,
        ...(appliance === undefined ? {} : { ref: appliance }),
        ...(readOnly === undefined ? {} : { readOnly }),
        ...(dataDisk === undefined ? {} : { dataBytes: dataDisk }),
        ...(tcp === undefined ? {} : { tcp })
      })
    },

    async detach({ machine }) {
      await machines.detach(checkName(machine, 'machine'))
      return { machine }
    },

    async remove({ machine, force = false }) {
      await machines.remove(checkName(machine, 'machine'), { force })
      rooms.quota.reconsider()
      return { machine }
    },

    async snapshot({ machine, note = '' }) {
      const { name, taken } = await machines.snapshot(checkName(machine, 'machine'), note)
      return { machine, snapshot: name, note, taken }
    },

    async snapshots({ machine }) {
      return machines.snapshots(checkName(machine, 'machine'))
    },

    async rollback({ machine, snapshot }) {
      const left = await machines.rollback(checkName(machine, 'machine'), snapshot)
      return { machine, snapshot, left: left.name }
    },

    async discard({ machine, snapshot }) {
      await machines.discard(checkName(machine, 'machine'), snapshot)
      return { machine, snapshot }
    },

    async export({ machine, file, format = 'raw', snapshot, disk = 'system' }, { signal, progress }) {
      const startMs = rooms.clock.monotonicMs()
      const known = EXPORT_FORMATS.find(each => each === format)
      if (known === undefined) throw new RowanError('USAGE', `the format is raw or qcow2, not "${format}"`)
      const ofDisk = DISK_NAMES.find(each => each === disk)
      if (ofDisk === undefined) throw new RowanError('USAGE', `the disk is system or data, not "${disk}"`)
      const from = { disk: ofDisk, ...(snapshot === undefined ? {} : { snapshot }) }
      const { sizeBytes, dataBytes } = await machines.export(checkName(machine, 'machine'), from, {
        ...{ file, format: known, signal },
        onProgress: (done, of) => progress({ phase: 'exporting', done, of, unit: 'bytes' })
      })
      const seconds = (rooms.clock.monotonicMs() - startMs) / 1000
      return { machine, file, format, size: sizeBytes, data: dataBytes, seconds }
    },

    async 'export-web'({ appliance: ref, folder }, { signal, progress }) {
      const startMs = rooms.clock.monotonicMs()
      const { appliance, release } = await appliances.resolve(ref, { allowExpired: true, signal })
      const { version, image: id, sizeBytes } = release
      const image = await rooms.images.open(id)
      if (image === undefined) throw new RowanError('IMAGE_INCOMPLETE', `nothing of ${appliance}@${version} is here`)
      const onProgress = (done: number, of: number) => progress({ phase: 'exporting', done, of, unit: 'blocks' })
      const written = await exportWeb(image, rooms.parts, {
        folder,
        signal,
        profile: rooms.profileToShare(id),
        onProgress
      })
      const seconds = (rooms.clock.monotonicMs() - startMs) / 1000
      return { appliance, version, image: id, folder, ...written, size: sizeBytes, seconds }
    },

    async releases({ appliance: ref }, { signal }) {
      const { latest } = await appliances.find(appliances.resolveName(parseApplianceRef(ref)), {
        signal,
        allowExpired: true
      })
      const { directory, clock, log } = rooms
      const findReplicas: Directory['findReplicas'] = (image, options) => directory.findReplicas(image, options)
      const countSharers: Directory['countSharers'] = (release, options) => directory.countSharers(release, options)
      const ownReplica = (image: string) => directory.announced(image)
      const listed = await listReleases(latest, { findReplicas, ownReplica, countSharers, clock, log }, { signal })
      const prospects = rooms.collector.prospects(latest.appliance)
      const rows = listed.map(async row => ({
        ...row,
        history: await historyOf(rooms, `${row.appliance}@${row.version}`),
        collection: prospects.get(row.version) ?? null
      }))
      return Promise.all(rows)
    },

    async gc(request) {
      const answer = await rooms.collector.collect(request)
      rooms.quota.reconsider()
      return answer
    },

    status: () => status(rooms),

    async trace({ machine }) {
      const trace = machines.trace(checkName(machine, 'machine'))
      return { machine, ...trace, budgetRoundTrips: ROUND_TRIP_BUDGET }
    },

    async limit({ reset = false, ...change }) {
      const isChange = reset || Object.keys(change).length > 0
      return isChange ? rooms.traffic.change(change, reset) : rooms.traffic.show()
    },

    async follow({ appliance, alias }) {
      return appliances.follow(appliance, alias)
    },

    doctor: () => rooms.doctor(),

    'key-show': async () => keyResult(keys.show()),
    async 'key-export'({ file }) {
      await keys.exportRoot(file)
      return { ...keyResult(keys.show()), file }
    },
    async 'key-import'({ file, replace = false }) {
      await keys.importRoot(file, { replace })
      await publisher.renewDue(rooms.clock.now())
      return keyResult(keys.show())
    },
    async 'key-renew'() {
      await keys.renew()
      await publisher.renewDue(rooms.clock.now())
      return keyResult(keys.show())
    },
    async 'key-rotate'() {
      await keys.rotate(memory.delegationOf(keys.publisher))
      await publisher.renewDue(rooms.clock.now())
      return keyResult(keys.show())
    }
  }
}

/** Of one version, in an answer: evenly spaced, the last one among them. */
const MAX_SAMPLES_SHOWN = 500

async function historyOf({ polls }: Rooms, release: string) {
  const samples = await polls.history.of(release)
  // A year of hours of hundreds of versions is more than anybody looks at.
  const step = Math.ceil(samples.length / MAX_SAMPLES_SHOWN)
  const shown = samples.filter((_, i) => (samples.length - 1 - i) % step === 0)
  return shown.map(({ atMs, ...sample }) => ({ at: new Date(atMs).toISOString(), ...sample }))
}

const NOTHING: Transferred = { blocks: 0, bytes: 0, wireBytes: 0 }

async function status(rooms: Rooms): Promise<StatusResult> {
  const { peer, keys, swarm, machines, replication, pool, quotaBytes, addresses } = rooms
  const images = new Set([...machines.images(), ...replication.list().map(({ image }) => image)])
  const transfers = [...images].map(image => ({ image, ...swarm.transfers(image) }))
  const fetchedFrom = (id: string) => {
    const parts = transfers.map(({ perPeer }) => perPeer[id] ?? NOTHING)
    const sum = (field: keyof Transferred) => parts.reduce((total, part) => total + part[field], 0)
    return { blocks: sum('blocks'), bytes: sum('bytes'), wireBytes: sum('wireBytes') }
  }
  return {
    peer: peer.peerId.toString(),
    publisher: keys.publisher,
    addresses: addresses(),
    reachability: { ...rooms.nat.state(), sentence: describeReachability(rooms.nat.state()) },
    peers: peer.getPeers().length,
    exchanging: swarm.peers().map(({ rttMs, rateBytesPerSecond, ...each }) => ({
      ...each,
      fetched: fetchedFrom(each.peer),
      rttMs: rttMs ?? null,
      rateBytesPerSecond: rateBytesPerSecond ?? null
    })),
    machines: (await machines.status()).map(state => machineStatus(state, swarm)),
    transfers: transfers.map(({ perPeer: _, ...transfer }) => transfer),
    replicating: replication.list().map(({ problem, local = { blocks: 0, of: 0 }, ...state }) => ({
      ...state,
      local,
      ...(problem === undefined ? {} : { error: { code: problem.code, message: problem.message } })
    })),
    pool: {
      ...pool.usage,
      pinnedBytes: await rooms.quota.pinnedBytes(),
      quotaBytes: Number.isFinite(quotaBytes) ? quotaBytes : null
    }
  }
}

function machineStatus({ description, error, boot, dataBytes, ...state }: MachineState, swarm: Swarm): MachineStatus {
  const [demand = 0, readAhead = 0, profile = 0, fill = 0] = swarm.waiting(description?.image ?? '')
  return {
    ...state,
    waiting: { demand, readAhead, profile, fill },
    boot: boot ?? null,
    dataDisk: dataBytes ?? null,
    appliance: description?.appliance ?? '',
    version: description?.version ?? '',
    image: description?.image ?? '',
    size: description?.sizeBytes ?? 0,
    readOnly: description?.readOnly ?? false,
    ...(error === undefined ? {} : { error: { code: error.code, message: error.message } })
  }
}
