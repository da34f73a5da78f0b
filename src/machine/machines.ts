/**
 * The machines of this peer: made, served, given up.
 *
 * A machine is a folder under HOME/machines (machine-folders.ts). One operation runs at a time for each machine. A
 * machine that cannot be used (its description damaged, its layer broken, its image missing) keeps its name and its
 * error; the others go on.
 *
 * Whatever changes, the directory is told which releases are in use (shares.ts); it says so to the network in its own time.
 *
 * `attach` of a machine that exists needs no network, and neither does `restore`, which serves again what was attached
 * when the daemon stopped. Each machine's disk has a socket of its own (machine-socket.ts).
 */
import { join } from 'node:path'
import { MAX_IMAGE_BYTES } from '../cluster.ts'
import type { DiskName, Snapshot } from '../disk/chain.ts'
import type { Timer } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { toHex } from '../image/hash.ts'
import { checkName, parseApplianceRef } from '../image/names.ts'
import type { LocalImage } from '../store/images.ts'
import { Timeline } from '../timeline.ts'
import type { BootProgress } from './boot-watch.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import { type MachineDescription, readDescription } from './description.ts'
import { type ExportRequest, exportDisk } from './disk-export.ts'
import { Machine } from './machine.ts'
import { deleteFolder, findMachines, makeMachineFolder, putMachineFolderAside } from './machine-folders.ts'
import type { SnapshotState } from './machine-snapshots.ts'
import { dataExport, nbdUri, sweepSockets } from './machine-socket.ts'
import { type MachineStats, noStats } from './machine-stats.ts'
import { RestartPolicy } from './restart-policy.ts'
import { sharesOf } from './shares.ts'
import { ATTACHED, type StartTrace, startTrace } from './start-trace.ts'
import { parseTcpAddress, sameTcp, type TcpAddress, tcpUri } from './tcp-address.ts'
import { Turns } from './turns.ts'

export const MAX_MACHINES = 1024
const DATA_DISK_UNIT_BYTES = 4096
const MIN_DATA_DISK_BYTES = 1024 * 1024
/** Disks that are opened at a time when the daemon starts: each start of a thread keeps a core busy for some 100 ms. */
const RESTORED_AT_ONCE = 4
/** How often numbers are kept and a newly complete image is announced. */
const HOUSEKEEPING_MS = 10_000

export interface AttachRequest {
  /** The machine's name. */
  name: string
  /** The appliance as a person writes it; absent: the machine must exist. */
  ref?: string
  /** Absent: as the machine was last, read-write if new. */
  readOnly?: boolean
  /** Takes an expired record of the appliance. */
  allowExpired?: boolean
  /** The machine gets a data disk of this size, if it has none; rounded up to 4 KiB. */
  dataBytes?: number
  /** PORT or HOST:PORT to serve it at beside its socket, behind TLS; `none` for no more. Absent: as it was last. */
  tcp?: string
  signal?: AbortSignal
}

export interface AttachAnswer {
  machine: string
  appliance: string
  version: string
  image: string
  /** Bytes. */
  size: number
  uri: string
  /** The same disk over TCP; null where it is not served there. */
  tcpUri: string | null
  readOnly: boolean
  created: boolean
  /** Its data disk, if it has one. */
  data?: { size: number; uri: string }
}

export interface MachineState extends MachineStats {
  name: string
  /** Undefined when the machine cannot be used. */
  description: MachineDescription | undefined
  attached: boolean
  clients: number
  layers: number
  /** Of its data disk; undefined if it has none. */
  dataBytes: number | undefined
  local: { blocks: number; of: number }
  /** Undefined while it is not attached. */
  boot: BootProgress | undefined
  error?: RowanError
}

interface Entry {
  machine: Machine | undefined
  /** Why it cannot be used, or could not be served again. */
  error: RowanError | undefined
  deaths: RestartPolicy
}

export class Machines {
  readonly #components: MachineComponents
  readonly #settings: MachineSettings
  readonly #entries = new Map<string, Entry>()
  readonly #turns = new Turns()
  #timer: Timer | undefined
  #stopped = false

  constructor(components: MachineComponents, settings: MachineSettings) {
    this.#components = components
    this.#settings = settings
  }

  /**
   * Finds the machines in the folder and serves those that were attached. Touches no network.
   *
   * @throws RowanError HOME_UNUSABLE when the folder cannot be read; what is wrong with one machine is in its status
   */
  async restore(): Promise<void> {
    const { names, removed } = findMachines(this.#settings.folder)
    sweepSockets(this.#settings.socketFolder)
    const queue = names.values()
    const restoreNext = async () => {
      for (const name of queue) await this.#turns.run(name, () => this.#restoreOne(name))
    }
    for (const name of names) this.#entries.set(name, newEntry())
    await Promise.all(Array.from({ length: RESTORED_AT_ONCE }, restoreNext))
    for (const path of removed) {
      deleteFolder(path).catch(error => this.#components.log.warn('a removed machine is not all gone', { path, error }))
    }
    this.#tellShares()
    this.#keepHouse()
  }

  /**
   * Serves a machine's disk; makes the machine if it is new.
   *
   * @throws RowanError NAME_INVALID, APPLIANCE_REF_INVALID, MACHINE_UNKNOWN (no appliance given), MACHINE_DIFFERS,
   *   MACHINE_CORRUPT, MACHINE_RUNNING (to be changed to read-only or back under a client), LAYER_CORRUPT,
   *   LIMIT_EXCEEDED; what resolving the appliance and opening its image throw
   */
  attach(request: AttachRequest): Promise<AttachAnswer> {
    checkName(request.name, 'machine')
    return this.#turns.run(request.name, async () => {
      if (this.#stopped) throw new RowanError('ABORTED', 'the daemon is stopping')
      const entry = this.#entries.get(request.name)
      try {
        return entry === undefined ? await this.#create(request) : await this.#attachKnown(entry, request)
      } finally {
        this.#tellShares()
      }
    })
  }

  /**
   * Stops serving a machine's disk; its clients' connections end after the requests in flight.
   *
   * @throws RowanError MACHINE_UNKNOWN; when the last flush failed
   */
  detach(name: string): Promise<void> {
    return this.#turns.run(name, async () => {
      const { machine } = this.#known(name)
      try {
        await machine?.close({ stayAttached: false })
      } finally {
        this.#tellShares()
      }
    })
  }

  /**
   * Forgets a machine with its layers.
   *
   * @throws RowanError MACHINE_UNKNOWN; MACHINE_RUNNING while it has clients, unless `force`
   */
  async remove(name: string, options: { force?: boolean } = {}): Promise<void> {
    const aside = await this.#turns.run(name, async () => {
      const { machine } = this.#known(name)
      const clients = (await machine?.clients()) ?? 0
      if (clients > 0 && options.force !== true) {
        throw new RowanError('MACHINE_RUNNING', `${name} is in use by ${clients} NBD client${clients > 1 ? 's' : ''}`)
      }
      try {
        if (machine?.disk !== undefined) await machine.close({ stayAttached: false })
      } catch (error) {
        this.#components.log.warn('a machine that is being removed did not close well', { name, error })
      }
      const folder = putMachineFolderAside(this.#settings.folder, name)
      this.#entries.delete(name)
      this.#tellShares()
      return folder
    })
    // Takes long for a large layer; nobody who stops the daemon, or makes a machine of this name again, waits for it.
    await deleteFolder(aside)
  }

  /** Keeps what a machine's disk holds now, whoever is writing to it. Errors as `Machine.snapshot`. */
  snapshot(name: string, note: string): Promise<Snapshot> {
    return this.#turns.run(name, () => this.#usable(name).snapshot(note))
  }

  /** @throws RowanError MACHINE_UNKNOWN, LAYER_CORRUPT */
  snapshots(name: string): SnapshotState[] {
    return this.#usable(name).snapshots
  }

  /** @returns the snapshot of what the machine left. Errors as `Machine.rollback`. */
  rollback(name: string, to: string): Promise<Snapshot> {
    return this.#turns.run(name, () => this.#usable(name).rollback(to))
  }

  /** Errors as `Machine.discard`. */
  discard(name: string, snapshot: string): Promise<void> {
    return this.#turns.run(name, () => this.#usable(name).discard(snapshot))
  }

  /**
   * Writes a disk that stands alone; the machine may be used, and be changed, meanwhile.
   *
   * @returns bytes of the disk, and of its blocks that are not zero
   * @throws RowanError SNAPSHOT_UNKNOWN; as `exportDisk`
   */
  async export(
    name: string,
    from: { snapshot?: string; disk: DiskName },
    request: ExportRequest
  ): Promise<{ sizeBytes: number; dataBytes: number }> {
    const machine = this.#usable(name)
    const { reader, release } = await this.#turns.run(name, () => machine.openSnapshot(from.snapshot, from.disk))
    try {
      return { sizeBytes: reader.sizeBytes, dataBytes: await exportDisk(reader, request) }
    } finally {
      await this.#turns.run(name, release).catch((error: unknown) => {
        this.#components.log.warn('what was made for an export is not all gone', { name, error: asRowanError(error) })
      })
    }
  }

  /** Names of the machines that are served. */
  served(): string[] {
    return [...this.#entries].filter(([, { machine }]) => machine?.disk !== undefined).map(([name]) => name)
  }

  /** The machine's description, if there is a machine that can be used. */
  describe(name: string): MachineDescription | undefined {
    return this.#entries.get(name)?.machine?.description
  }

  async status(): Promise<MachineState[]> {
    return await Promise.all([...this.#entries].map(([name, entry]) => this.#stateOf(name, entry)))
  }

  /**
   * How a machine's last start went.
   *
   * @throws RowanError MACHINE_UNKNOWN
   */
  trace(name: string): StartTrace {
    return this.#known(name).machine?.trace ?? startTrace([])
  }

  /** Ids of the images that local machines have: they must not be collected. */
  images(): Set<string> {
    const used = [...this.#entries.values()].map(({ machine }) => machine?.description.image)
    return new Set(used.filter(image => image !== undefined))
  }

  /** Of all machines that can be used. */
  descriptions(): MachineDescription[] {
    const known = [...this.#entries.values()].map(({ machine }) => machine?.description)
    return known.filter(description => description !== undefined)
  }

  /** Closes all disks; they are served again after the next `restore`. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#turns.idle()
    let failure: unknown
    const closing = [...this.#entries].map(async ([name, { machine }]) => {
      try {
        if (machine?.disk !== undefined) await machine.close({ stayAttached: true })
      } catch (error) {
        this.#components.log.warn('a machine did not close well', { name, error })
        failure ??= error
      }
    })
    await Promise.all(closing)
    if (failure !== undefined) throw failure
  }

  async #restoreOne(name: string): Promise<void> {
    const { log, images } = this.#components
    const entry = this.#entries.get(name)!
    try {
      entry.machine = this.#machine(readDescription(join(this.#settings.folder, name), name))
      const { attached, readOnly, image: id } = entry.machine.description
      const image = await images.open(id)
      if (image !== undefined && attached) await this.#openAsBefore(entry.machine, image, readOnly)
      else if (image !== undefined) entry.machine.announce(image)
      else if (attached) {
        const says = `the image ${id} of ${name} is not here any more; attach the machine again to fetch it`
        throw new RowanError('NO_REPLICA', says)
      }
    } catch (error) {
      entry.error = asRowanError(error)
      log.warn('a machine cannot be served', { name, error: entry.error })
    }
  }

  /** Where its port or what TLS needs cannot be had, a machine is served at its socket all the same: its guest is there. */
  async #openAsBefore(machine: Machine, image: LocalImage, readOnly: boolean): Promise<void> {
    const { name, tcp } = machine.description
    try {
      await machine.open(image, readOnly)
    } catch (error) {
      const { code, message } = asRowanError(error)
      if (tcp === undefined || (code !== 'TLS_INVALID' && code !== 'LISTEN_FAILED')) throw error
      this.#components.log.warn('a machine is served at its socket alone', { name, ...tcp, code, message })
      await machine.open(image, readOnly, { withoutTcp: true })
    }
  }

  async #create(request: AttachRequest): Promise<AttachAnswer> {
    const { appliances, swarm, profiles, clock, random } = this.#components
    const { name, ref, signal, allowExpired = false, readOnly = false } = request
    const dataBytes = checkDataDisk(request.dataBytes, readOnly)
    const tcp = request.tcp === undefined ? undefined : tcpOf(request.tcp)
    const line = new Timeline(clock)
    line.mark(ATTACHED)
    if (ref === undefined) throw new RowanError('MACHINE_UNKNOWN', `there is no machine ${name}`)
    if (this.#entries.size >= MAX_MACHINES) {
      throw new RowanError('LIMIT_EXCEEDED', `there are ${MAX_MACHINES} machines already, which is the limit`)
    }
    const waiting = signal === undefined ? {} : { signal }
    const { appliance, release, similar, replicas } = await appliances.resolve(ref, { allowExpired, ...waiting })
    line.mark('release found')
    await profiles.expect(release.image, { hash: release.profile, similar })
    swarm.restartLine(release.image)
    const image = await swarm.openImage(release.image, replicas, waiting)
    line.mark('image is open')
    signal?.throwIfAborted()
    if (image.root.sizeBytes !== release.sizeBytes) {
      const says = `${appliance}@${release.version} promises ${release.sizeBytes} bytes`
      throw new RowanError('RECORD_INVALID', `${says}, and its image has ${image.root.sizeBytes}`)
    }
    const description: MachineDescription = {
      format: 1,
      name,
      appliance,
      version: release.version,
      image: image.id,
      sizeBytes: image.root.sizeBytes,
      created: new Date(clock.now()).toISOString(),
      readOnly,
      attached: true,
      id: toHex(random.bytes(16)),
      hasLayer: false
    }
    await makeMachineFolder(this.#settings.folder, description)
    const machine = this.#machine(description)
    machine.begins(line)
    try {
      await machine.open(image, readOnly, { dataBytes, tcp })
    } catch (error) {
      await deleteFolder(putMachineFolderAside(this.#settings.folder, name))
      throw asRowanError(error)
    }
    this.#entries.set(name, { ...newEntry(), machine })
    return this.#answer(machine, true)
  }

  async #attachKnown(entry: Entry, request: AttachRequest): Promise<AttachAnswer> {
    const { name } = request
    // It may have been brought back from a copy meanwhile.
    entry.machine ??= this.#machine(readDescription(join(this.#settings.folder, name), name))
    const { machine } = entry
    const { description } = machine
    if (request.ref !== undefined) this.#checkSame(description, request.ref)
    const readOnly = request.readOnly ?? description.readOnly
    const tcp = request.tcp === undefined ? description.tcp : tcpOf(request.tcp)
    const dataBytes = checkDataDisk(request.dataBytes, readOnly)
    const hasBytes = machine.dataBytes
    if (dataBytes !== undefined && hasBytes !== undefined && hasBytes !== dataBytes) {
      throw new RowanError('MACHINE_DIFFERS', `the data disk of ${name} has ${hasBytes} bytes, not ${dataBytes}`)
    }
    const isNewDisk = dataBytes !== undefined && hasBytes === undefined
    // What could not be had after a restart is tried again only when somebody asks for it.
    const moves = request.tcp !== undefined && !sameTcp(machine.servedTcp, tcp)
    const changes = machine.disk?.readOnly !== readOnly || isNewDisk || moves
    const wasServed = machine.disk !== undefined
    if (wasServed && changes) {
      if ((await machine.clients()) > 0) {
        const mode = description.readOnly ? 'read-only' : 'read-write'
        const where = description.tcp === undefined ? '' : ` at ${description.tcp.host}:${description.tcp.port}`
        throw new RowanError('MACHINE_RUNNING', `${name} is in use, attached ${mode}${where}`)
      }
      if (tcp !== undefined) await machine.listenerAt(tcp)
      await machine.close({ stayAttached: false })
    }
    if (machine.disk === undefined) {
      const line = new Timeline(this.#components.clock)
      line.mark(ATTACHED)
      this.#components.swarm.restartLine(description.image)
      machine.begins(line)
      const image = await this.#imageOf(description, request)
      try {
        await machine.open(image, readOnly, { dataBytes, tcp })
      } catch (error) {
        if (wasServed) await machine.open(image, description.readOnly, { tcp: description.tcp })
        throw error
      }
      entry.error = undefined
      entry.deaths.reset()
    }
    return this.#answer(machine, false)
  }

  /** A machine's image: from here, or, should it have been lost, from the network. */
  async #imageOf(description: MachineDescription, request: AttachRequest): Promise<LocalImage> {
    const { images, appliances, swarm, log } = this.#components
    const here = await images.open(description.image)
    if (here !== undefined) return here
    const { appliance, version } = description
    log.warn('the image of a machine is not here any more and is looked for', { machine: description.name, appliance })
    const waiting = request.signal === undefined ? {} : { signal: request.signal }
    // Its own version, which may have expired long ago: the image is named by its hash, so it cannot be another.
    const { replicas } = await appliances.resolve(`${appliance}@${version}`, { allowExpired: true, ...waiting })
    return await swarm.openImage(description.image, replicas, waiting)
  }

  /** A channel, or no version at all, means the machine's own. */
  #checkSame({ name, appliance, version }: MachineDescription, text: string): void {
    const ref = parseApplianceRef(text)
    const wanted = this.#components.appliances.resolveName(ref)
    if (wanted === appliance && (ref.version === undefined || ref.version === version)) return
    const asked = ref.version === undefined ? wanted : `${wanted}@${ref.version}`
    throw new RowanError('MACHINE_DIFFERS', `the machine ${name} is of ${appliance}@${version}, not of ${asked}`)
  }

  /** Needs no network, and a machine works without: what goes wrong is logged. */
  #tellShares(): void {
    const machines = [...this.#entries.values()].flatMap(({ machine }) => machine ?? [])
    try {
      this.#components.directory.shareReleases(sharesOf(machines.map(({ description }) => description)))
    } catch (error) {
      this.#components.log.warn('the releases in use cannot be told', { error: asRowanError(error) })
    }
  }

  #machine(description: MachineDescription): Machine {
    const machine = new Machine(this.#components, this.#settings, description)
    machine.onDied = error => this.#died(machine, error)
    return machine
  }

  /** The others go on; this one is served again by itself, unless that has not helped. */
  #died(machine: Machine, error: RowanError): void {
    const { clock, log } = this.#components
    const { name } = machine.description
    const entry = this.#entries.get(name)
    if (entry?.machine !== machine) return
    entry.error = error
    const action = this.#stopped ? 'give up' : entry.deaths.died(clock.monotonicMs())
    log.warn('the disk of a machine has failed', { name, error, action })
    if (action === 'restart') void this.#turns.run(name, () => this.#openAgain(name, machine))
  }

  async #openAgain(name: string, machine: Machine): Promise<void> {
    const entry = this.#entries.get(name)
    const { attached, readOnly, image: id } = machine.description
    if (this.#stopped || entry?.machine !== machine || machine.disk !== undefined || !attached) return
    try {
      const image = await this.#components.images.open(id)
      if (image === undefined) throw new RowanError('NO_REPLICA', `the image ${id} of ${name} is not here any more`)
      await this.#openAsBefore(machine, image, readOnly)
      entry.error = undefined
      this.#components.log.info('the disk of a machine is served again', { name })
    } catch (error) {
      entry.error = asRowanError(error)
      this.#components.log.warn('the disk of a machine cannot be served again', { name, error: entry.error })
    }
  }

  #answer({ description, disk, socketPath, servedTcp, dataBytes }: Machine, created: boolean): AttachAnswer {
    const { name, appliance, version, image, sizeBytes } = description
    const uri = nbdUri(name, socketPath)
    const data = dataBytes === undefined ? {} : { data: { size: dataBytes, uri: nbdUri(dataExport(name), socketPath) } }
    return {
      machine: name,
      appliance,
      version,
      image,
      size: sizeBytes,
      uri,
      tcpUri: servedTcp === undefined ? null : tcpUri(name, servedTcp),
      readOnly: disk!.readOnly,
      created,
      ...data
    }
  }

  #known(name: string): Entry {
    const entry = this.#entries.get(checkName(name, 'machine'))
    if (entry === undefined) throw new RowanError('MACHINE_UNKNOWN', `there is no machine ${name}`)
    return entry
  }

  #usable(name: string): Machine {
    const { machine, error } = this.#known(name)
    if (machine === undefined) throw error ?? new RowanError('MACHINE_CORRUPT', `${name} cannot be used`)
    return machine
  }

  #keepHouse(): void {
    this.#timer = this.#components.clock.after(HOUSEKEEPING_MS, () => {
      for (const { machine } of this.#entries.values()) {
        if (machine?.disk !== undefined) void machine.tend()
      }
      this.#keepHouse()
    })
  }

  async #stateOf(name: string, { machine, error }: Entry): Promise<MachineState> {
    const failed = error === undefined ? {} : { error }
    const description = machine?.description
    const base = { name, description, attached: machine?.disk !== undefined, boot: machine?.bootProgress }
    const nothing = { layers: 0, dataBytes: undefined, local: { blocks: 0, of: 0 } }
    if (machine === undefined) return { ...base, clients: 0, ...nothing, ...noStats(), ...failed }
    const known = { ...base, clients: await machine.clients(), ...(await machine.stats()) }
    try {
      return { ...known, layers: machine.layers, dataBytes: machine.dataBytes, local: await machine.local(), ...failed }
    } catch (problem) {
      return { ...known, ...nothing, error: error ?? asRowanError(problem, 'STORE_IO', name) }
    }
  }
}

/** @throws RowanError USAGE */
function checkDataDisk(dataBytes: number | undefined, readOnly: boolean): number | undefined {
  if (dataBytes === undefined) return undefined
  if (readOnly) throw new RowanError('USAGE', 'a read-only machine cannot be given a data disk')
  const rounded = Math.ceil(dataBytes / DATA_DISK_UNIT_BYTES) * DATA_DISK_UNIT_BYTES
  if (rounded >= MIN_DATA_DISK_BYTES && rounded <= MAX_IMAGE_BYTES) return rounded
  throw new RowanError('USAGE', `a data disk has from 1 MiB to 8 TiB, not ${dataBytes} bytes`)
}

function newEntry(): Entry {
  return { machine: undefined, error: undefined, deaths: new RestartPolicy() }
}

/** What a request says of TCP: an address, or none. */
function tcpOf(text: string): TcpAddress | undefined {
  return text === 'none' ? undefined : parseTcpAddress(text)
}
