/**
 * Files and folders on a simulated disk, with all that a power loss may do to names.
 *
 * Data is kept as in simulated-disk.ts, under the number of its file. A name in a folder has a row of versions as a
 * sector has: the first is surely on the disk, the last is what everybody sees; a power loss leaves any of them, chosen
 * for each name by itself, until the folder is synced. All operations are events that can be replayed.
 */
import type { LayerFile, LayerFiles } from '../../../../src/disk/layer-files.ts'
import { type DiskEvent, SimulatedDisk } from './simulated-disk.ts'

export type FilesEvent =
  | DiskEvent
  /** `node`: of the file or folder that the name means from now on; undefined: nothing. */
  | { kind: 'name'; folder: number; name: string; node: number | undefined }
  | { kind: 'make-file'; node: number; sizeBytes: number }
  | { kind: 'make-folder'; node: number }
  | { kind: 'sync-folder'; folder: number }

type Folder = Map<string, (number | undefined)[]>

const ROOT = 0

/** The state that events make; knows nothing of who asks. */
export class SimulatedTree {
  disk = new SimulatedDisk()
  folders = new Map<number, Folder>([[ROOT, new Map()]])

  clone(): SimulatedTree {
    const copy = new SimulatedTree()
    copy.disk = this.disk.clone()
    copy.folders = new Map([...this.folders].map(([id, folder]) => [id, cloneFolder(folder)]))
    return copy
  }

  afterPowerLoss(choose: (count: number) => number): SimulatedTree {
    const copy = new SimulatedTree()
    copy.disk = this.disk.afterPowerLoss(choose)
    copy.folders = new Map(
      [...this.folders].map(([id, folder]) => {
        const left: Folder = new Map()
        for (const [name, versions] of folder) left.set(name, [versions[choose(versions.length)]])
        return [id, left]
      })
    )
    return copy
  }

  apply(event: FilesEvent): void {
    if (event.kind === 'make-file') this.disk.create(String(event.node), event.sizeBytes)
    else if (event.kind === 'make-folder') this.folders.set(event.node, new Map())
    else if (event.kind === 'name') {
      const folder = this.folders.get(event.folder)!
      folder.set(event.name, [...(folder.get(event.name) ?? [undefined]), event.node])
    } else if (event.kind === 'sync-folder') {
      const folder = this.folders.get(event.folder)!
      for (const [name, versions] of folder) folder.set(name, versions.slice(-1))
    } else {
      if (event.kind === 'write') this.#grow(event.file, event.position + event.bytes.length)
      this.disk.apply(event)
    }
  }

  /** The node of a path without its first part; undefined where there is none. */
  find(parts: readonly string[]): number | undefined {
    let node: number | undefined = ROOT
    for (const part of parts) {
      node = node === undefined ? undefined : this.folders.get(node)?.get(part)?.at(-1)
    }
    return node
  }

  #grow(file: string, sizeBytes: number): void {
    const known = this.disk.files.get(file)!
    if (known.sizeBytes < sizeBytes) known.sizeBytes = sizeBytes
  }
}

function cloneFolder(folder: Folder): Folder {
  return new Map([...folder].map(([name, versions]) => [name, versions.slice()]))
}

export class SimulatedFiles implements LayerFiles {
  readonly tree: SimulatedTree
  readonly events: FilesEvent[] = []
  /** Throws, to make an operation fail. */
  fault: (operation: 'write' | 'sync' | 'rename' | 'sync-folder', path: string) => void = () => {}
  #nextNode = 1
  #syncs = 0

  constructor(tree = new SimulatedTree()) {
    this.tree = tree
    this.#nextNode = 1 + Math.max(ROOT, ...tree.folders.keys(), ...[...tree.disk.files.keys()].map(Number))
  }

  record(event: FilesEvent): void {
    this.events.push(event)
    this.tree.apply(event)
  }

  exists(path: string): boolean {
    return this.tree.find(partsOf(path)) !== undefined
  }

  create(path: string, sizeBytes: number): LayerFile {
    if (this.exists(path)) throw new Error(`${path} exists`)
    const node = this.#nextNode++
    this.record({ kind: 'make-file', node, sizeBytes })
    this.#name(path, node)
    return this.open(path)
  }

  open(path: string): LayerFile {
    const node = this.tree.find(partsOf(path))
    if (node === undefined) throw new Error(`${path} is not there`)
    return new SimulatedFile(this, path, String(node))
  }

  makeFolder(path: string): void {
    const parts = partsOf(path)
    for (let count = 1; count <= parts.length; count++) {
      if (this.tree.find(parts.slice(0, count)) !== undefined) continue
      const node = this.#nextNode++
      this.record({ kind: 'make-folder', node })
      const folder = this.tree.find(parts.slice(0, count - 1))!
      this.record({ kind: 'name', folder, name: parts[count - 1]!, node })
    }
  }

  removeFolder(path: string): void {
    if (this.exists(path)) this.#name(path, undefined)
  }

  remove(path: string): void {
    if (this.exists(path)) this.#name(path, undefined)
  }

  async deleteFolder(path: string): Promise<void> {
    this.removeFolder(path)
  }

  list(path: string): string[] {
    const folder = this.tree.folders.get(this.tree.find(partsOf(path)) ?? -1)
    return [...(folder ?? [])].filter(([, versions]) => versions.at(-1) !== undefined).map(([name]) => name)
  }

  rename(from: string, to: string): void {
    this.fault('rename', from)
    const node = this.tree.find(partsOf(from))!
    if (this.tree.folders.has(node) && this.list(to).length > 0) throw new Error(`${to} is not empty`)
    this.#name(to, node)
    this.#name(from, undefined)
  }

  syncFolder(path: string): void {
    this.fault('sync-folder', path)
    this.record({ kind: 'sync-folder', folder: this.tree.find(partsOf(path))! })
  }

  allocatedBytes(path: string): number {
    return this.exists(path) ? this.open(path).allocatedBytes : 0
  }

  /** It may keep all of it: the system is only asked. */
  async forget(): Promise<void> {}

  freeBytes(): number {
    return Number.POSITIVE_INFINITY
  }

  nextSync(): number {
    return this.#syncs++
  }

  #name(path: string, node: number | undefined): void {
    const parts = partsOf(path)
    this.record({ kind: 'name', folder: this.tree.find(parts.slice(0, -1))!, name: parts.at(-1)!, node })
  }
}

class SimulatedFile implements LayerFile {
  readonly path: string
  readonly #files: SimulatedFiles
  readonly #node: string

  constructor(files: SimulatedFiles, path: string, node: string) {
    this.#files = files
    this.path = path
    this.#node = node
  }

  get sizeBytes(): number {
    return this.#files.tree.disk.files.get(this.#node)!.sizeBytes
  }

  get allocatedBytes(): number {
    return this.#files.tree.disk.files.get(this.#node)!.sectors.size * 512
  }

  readSync(target: Uint8Array, targetOffset: number, length: number, position: number): void {
    this.#files.tree.disk.read(this.#node, target.subarray(targetOffset, targetOffset + length), position)
  }

  async read(target: Uint8Array, position: number): Promise<void> {
    this.readSync(target, 0, target.length, position)
  }

  writeSync(source: Uint8Array, sourceOffset: number, length: number, position: number): void {
    this.#files.fault('write', this.path)
    const bytes = Uint8Array.from(source.subarray(sourceOffset, sourceOffset + length))
    this.#files.record({ kind: 'write', file: this.#node, position, bytes })
  }

  async write(source: Uint8Array, position: number): Promise<void> {
    this.writeSync(source, 0, source.length, position)
  }

  async sync(): Promise<void> {
    this.syncSync()
  }

  syncSync(): void {
    const id = this.#files.nextSync()
    this.#files.record({ kind: 'sync-begin', file: this.#node, id })
    try {
      this.#files.fault('sync', this.path)
    } catch (error) {
      this.#files.record({ kind: 'sync-end', file: this.#node, id, failed: true })
      throw error
    }
    this.#files.record({ kind: 'sync-end', file: this.#node, id, failed: false })
  }

  close(): void {}
}

/** Each life of a test has a first folder of its own: a layer may be open once in a process. */
function partsOf(path: string): string[] {
  return path.split('/').filter(Boolean).slice(1)
}
