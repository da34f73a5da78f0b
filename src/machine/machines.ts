/**
 * The machines of this peer: made, served, given up.
 *
 * A machine is a folder under HOME/machines (machine-folders.ts). One operation runs at a time for each machine. A
 * machine that cannot be used (its description damaged, its layer broken, its image missing) keeps its name and its
 * error; the others go on. One whose disk has failed is served again by itself (restart-policy.ts).
 *
 * Whatever changes, the directory is told which releases are in use (shares.ts); it says so to the network in its own time.
 *
 * `restore` needs no network: it serves again what was attached when the daemon stopped. What an attach does is told in
 * attacher.ts. Each machine's disk has a socket of its own (machine-socket.ts).
 *
 * Owns: which machines there are, why one cannot be used, and whose turn it is.
 */
import { join } from 'node:path'
import { inTime } from '../deadline.ts'
import type { DiskName, Snapshot } from '../disk/chain.ts'
import type { Timer } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { checkName } from '../image/names.ts'
import { Turns } from '../turns.ts'
import { type AttachAnswer, Attacher, type AttachRequest, attachAnswer } from './attacher.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import { type MachineDescription, readDescription } from './description.ts'
import { type ExportRequest, exportDisk } from './disk-export.ts'
import { CLOSE_TIMEOUT_MS } from './disk-thread.ts'
import { Machine } from './machine.ts'
import { deleteFolder, findMachines, putMachineFolderAside } from './machine-folders.ts'
import type { SnapshotState } from './machine-snapshots.ts'
import { sweepSockets } from './machine-socket.ts'
import { type MachineState, stateOf } from './machine-state.ts'
import { RestartPolicy } from './restart-policy.ts'
import { sharesOf } from './shares.ts'
import { type StartTrace, startTrace } from './start-trace.ts'

const MAX_MACHINES = 1024
/** Disks that are opened at a time when the daemon starts: each start of a thread keeps a core busy for some 100 ms. */
const RESTORED_AT_ONCE = 4
/** How often numbers are kept and a newly complete image is announced. */
const HOUSEKEEPING_MS = 10_000

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
  readonly #attacher: Attacher
  #timer: Timer | undefined
  #stopped = false

  constructor(components: MachineComponents, settings: MachineSettings) {
    this.#components = components
    this.#settings = settings
    this.#attacher = new Attacher(components, settings, {
      checkRoom: () => this.#checkRoom(),
      machine: description => this.#machine(description)
    })
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
        return entry === undefined ? await this.#create(request) : await this.#attach(entry, request)
      } finally {
        this.#tellShares()
      }
    })
  }

  /**
   * Stops serving a machine's disk; its clients' connections end after the requests in flight.
   *
   * @throws RowanError MACHINE_UNKNOWN; when the last flush failed; DISK_STUCK when its disk does not end what it is at, and then
   *   nobody finds it any more, unless it is in the midst of another command
   */
  async detach(name: string): Promise<void> {
    const { clock } = this.#components
    const late = new AbortController()
    const timer = clock.after(CLOSE_TIMEOUT_MS, () => {
      const says = `another command for ${name} has not ended for ${CLOSE_TIMEOUT_MS / 1000} s`
      late.abort(new RowanError('DISK_STUCK', `${says}: what its disk has to write does not get to the disk`))
    })
    const work = async () => {
      timer.cancel()
      const entry = this.#known(name)
      const machine = this.#usable(name)
      try {
        await machine.close({ stayAttached: false })
        // Why it was not served: now it is not meant to be.
        entry.error = undefined
      } finally {
        this.#tellShares()
      }
    }
    try {
      await this.#turns.run(name, work, late.signal)
    } finally {
      timer.cancel()
    }
  }

  /**
   * Forgets a machine with its layers.
   *
   * @throws RowanError MACHINE_UNKNOWN; MACHINE_RUNNING while it has clients, unless `force`; DISK_STUCK
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
      machine?.checkLeft()
      const folder = putMachineFolderAside(this.#settings.folder, name)
      this.#entries.delete(name)
      this.#tellShares()
      return folder
    })
    // Takes long for a large layer; nobody who stops the daemon, or makes a machine of this name again, waits for it.
    await deleteFolder(aside)
  }

  /** Keeps what a machine's disk holds now, whoever is writing to it. Errors as `LayersKeeper.snapshot`. */
  snapshot(name: string, note: string): Promise<Snapshot> {
    return this.#turns.run(name, () => this.#usable(name).layers.snapshot(note))
  }

  /** @throws RowanError MACHINE_UNKNOWN, LAYER_CORRUPT */
  snapshots(name: string): SnapshotState[] {
    return this.#usable(name).layers.snapshots
  }

  /** @returns the snapshot of what the machine left. Errors as `Machine.rollback`. */
  rollback(name: string, to: string): Promise<Snapshot> {
    return this.#turns.run(name, () => this.#usable(name).rollback(to))
  }

  /** Errors as `LayersKeeper.discard`. */
  discard(name: string, snapshot: string): Promise<void> {
    return this.#turns.run(name, () => this.#usable(name).layers.discard(snapshot))
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
    // In its turn: whoever asked before may have removed it, and made another of its name.
    const { reader, release } = await this.#turns.run(name, () =>
      this.#usable(name).layers.openSnapshot(from.snapshot, from.disk)
    )
    try {
      const dataBytes = await exportDisk(reader, this.#components.parts, request)
      return { sizeBytes: reader.sizeBytes, dataBytes }
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
    return await Promise.all(
      [...this.#entries].map(([name, entry]) => stateOf(name, entry.machine, entry.error ?? entry.machine?.stuck))
    )
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
    const late = () => new RowanError('DISK_STUCK', 'commands for machines have not ended')
    await inTime(this.#turns.idle(), this.#components.clock, CLOSE_TIMEOUT_MS, late).catch((error: unknown) => {
      this.#components.log.warn('the machines are closed all the same', { error })
    })
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
      const { attached, image: id } = entry.machine.description
      const image = await images.open(id)
      if (image !== undefined && attached) await entry.machine.openAsBefore(image)
      else if (image !== undefined) entry.machine.announce(image)
      else if (attached) {
        const says = `the image ${id} of ${name} is not here any more; attach the machine again to fetch it`
        throw new RowanError('NO_REPLICA', says)
      }
    } catch (error) {
      entry.error = asRowanError(error)
      log.warn('a machine cannot be served', { name, error: entry.error })
      return
    }
    await entry.machine.layers.discardLeftovers().catch((error: unknown) => {
      log.warn('what was made for an export is not all gone', { name, error: asRowanError(error) })
    })
  }

  async #create(request: AttachRequest): Promise<AttachAnswer> {
    const machine = await this.#attacher.create(request)
    this.#entries.set(request.name, { ...newEntry(), machine })
    return attachAnswer(machine, true)
  }

  async #attach(entry: Entry, request: AttachRequest): Promise<AttachAnswer> {
    const { name } = request
    // It may have been brought back from a copy meanwhile.
    entry.machine ??= this.#machine(readDescription(join(this.#settings.folder, name), name))
    const isOpenedAnew = await this.#attacher.serve(entry.machine, request)
    if (isOpenedAnew) {
      entry.error = undefined
      entry.deaths.reset()
    }
    return attachAnswer(entry.machine, false)
  }

  #checkRoom(): void {
    if (this.#entries.size < MAX_MACHINES) return
    throw new RowanError('LIMIT_EXCEEDED', `there are ${MAX_MACHINES} machines already, which is the limit`)
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
    const { attached, image: id } = machine.description
    if (this.#stopped || entry?.machine !== machine || machine.disk !== undefined || !attached) return
    try {
      const image = await this.#components.images.open(id)
      if (image === undefined) throw new RowanError('NO_REPLICA', `the image ${id} of ${name} is not here any more`)
      await machine.openAsBefore(image)
      entry.error = undefined
      this.#components.log.info('the disk of a machine is served again', { name })
    } catch (error) {
      entry.error = asRowanError(error)
      this.#components.log.warn('the disk of a machine cannot be served again', { name, error: entry.error })
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
}

function newEntry(): Entry {
  return { machine: undefined, error: undefined, deaths: new RestartPolicy() }
}
