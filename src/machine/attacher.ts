/**
 * Brings a machine to where its disk is served: a new one, one that was detached, one that is served otherwise.
 *
 * What was asked for is checked before anything is changed. A new machine is made in this order: its release is found,
 * its image opened, its folder made, its disk served; where the last fails, the folder goes again. A machine that exists
 * needs no network, unless its image was lost. One that has clients is not served otherwise under them, and one that
 * cannot be served otherwise is served as before.
 *
 * Owns nothing: the machines are those of machines.ts, which runs one operation at a time on each.
 */
import { MAX_IMAGE_BYTES } from '../cluster.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { toHex } from '../image/hash.ts'
import { parseApplianceRef } from '../image/names.ts'
import type { LocalImage } from '../store/images.ts'
import { Timeline } from '../timeline.ts'
import type { MachineComponents, MachineSettings } from './components.ts'
import type { MachineDescription } from './description.ts'
import type { Machine } from './machine.ts'
import { deleteFolder, makeMachineFolder, putMachineFolderAside } from './machine-folders.ts'
import { dataExport, nbdUri } from './machine-socket.ts'
import { ATTACHED } from './start-trace.ts'
import { parseTcpAddress, sameTcp, type TcpAddress, tcpUri } from './tcp-address.ts'

const DATA_DISK_UNIT_BYTES = 4096
const MIN_DATA_DISK_BYTES = 1024 * 1024

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
  /** Bytes of the disk. */
  size: number
  /** nbd+unix:///MACHINE?socket=PATH */
  uri: string
  /** nbds://HOST:PORT/MACHINE where it is served over TCP, too; else null. */
  tcpUri: string | null
  readOnly: boolean
  /** NBD connections to its disk that there were already. */
  clients: number
  /** Whether this call created the machine. */
  created: boolean
  /** Its data disk, if it has one: bytes, and nbd+unix:///MACHINE/data?socket=PATH */
  data?: { size: number; uri: string }
}

/** Whoever keeps the machines. */
interface Roster {
  /** @throws RowanError LIMIT_EXCEEDED when there can be no other machine */
  checkRoom(): void
  /** A machine whose end is noticed. */
  machine(description: MachineDescription): Machine
}

export class Attacher {
  readonly #components: MachineComponents
  readonly #settings: MachineSettings
  readonly #roster: Roster

  constructor(components: MachineComponents, settings: MachineSettings, roster: Roster) {
    this.#components = components
    this.#settings = settings
    this.#roster = roster
  }

  /** Makes a machine and serves it. Errors as `Machines.attach`. */
  async create(request: AttachRequest): Promise<Machine> {
    const { appliances, swarm, profiles, clock, random } = this.#components
    const { name, ref, signal, allowExpired = false, readOnly = false } = request
    const dataBytes = checkDataDisk(request.dataBytes, readOnly)
    const tcp = request.tcp === undefined ? undefined : tcpOf(request.tcp)
    const line = new Timeline(clock)
    line.mark(ATTACHED)
    if (ref === undefined) throw new RowanError('MACHINE_UNKNOWN', `there is no machine ${name}`)
    this.#roster.checkRoom()
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
    const machine = this.#roster.machine(description)
    machine.begins(line)
    const endUse = image.use()
    try {
      await machine.open(image, readOnly, { dataBytes, tcp })
    } catch (error) {
      await deleteFolder(putMachineFolderAside(this.#settings.folder, name))
      throw asRowanError(error)
    } finally {
      endUse()
    }
    return machine
  }

  /**
   * Serves a machine that exists as the request says, or goes on serving it.
   *
   * @returns whether its disk was opened anew. Errors as `Machines.attach`.
   */
  async serve(machine: Machine, request: AttachRequest): Promise<boolean> {
    const { name } = request
    const { description } = machine
    if (request.ref !== undefined) this.#checkSame(description, request.ref)
    const readOnly = request.readOnly ?? description.readOnly
    const tcp = request.tcp === undefined ? description.tcp : tcpOf(request.tcp)
    const dataBytes = checkDataDisk(request.dataBytes, readOnly)
    const hasBytes = machine.layers.dataBytes
    if (dataBytes !== undefined && hasBytes !== undefined && hasBytes !== dataBytes) {
      throw new RowanError('MACHINE_DIFFERS', `the data disk of ${name} has ${hasBytes} bytes, not ${dataBytes}`)
    }
    const isNewDisk = dataBytes !== undefined && hasBytes === undefined
    // What could not be had after a restart is tried again only when somebody asks for it.
    const moves = request.tcp !== undefined && !sameTcp(machine.servedTcp, tcp)
    const changes = machine.disk?.readOnly !== readOnly || isNewDisk || moves
    const wasServed = machine.disk !== undefined
    if (wasServed) {
      if (!changes) return false
      if ((await machine.clients()) > 0) {
        const mode = description.readOnly ? 'read-only' : 'read-write'
        const where = description.tcp === undefined ? '' : ` at ${description.tcp.host}:${description.tcp.port}`
        throw new RowanError('MACHINE_RUNNING', `${name} is in use, attached ${mode}${where}`)
      }
      if (tcp !== undefined) await machine.listenerAt(tcp)
    }
    const line = new Timeline(this.#components.clock)
    line.mark(ATTACHED)
    this.#components.swarm.restartLine(description.image)
    machine.begins(line)
    const image = await this.#imageOf(description, request)
    const endUse = image.use()
    try {
      if (wasServed) await machine.close({ stayAttached: true })
      await machine.open(image, readOnly, { dataBytes, tcp })
    } catch (error) {
      if (wasServed) await machine.openAsBefore(image)
      throw error
    } finally {
      endUse()
    }
    return true
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
}

/** What an attach says of a machine that is served. */
export async function attachAnswer(machine: Machine, created: boolean): Promise<AttachAnswer> {
  const { description, disk, socketPath, servedTcp } = machine
  const { dataBytes } = machine.layers
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
    clients: await machine.clients(),
    created,
    ...data
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

/** What a request says of TCP: an address, or none. */
function tcpOf(text: string): TcpAddress | undefined {
  return text === 'none' ? undefined : parseTcpAddress(text)
}
