/**
 * A pool to be killed: puts blocks, says so, and waits.
 *
 *     node pool-child.ts POOL_FOLDER CATALOG_FOLDER FIRST_BLOCK BLOCKS
 */
import { Catalog } from '../../src/store/catalog.ts'
import { Pool } from '../../src/store/pool.ts'
import { entryOf } from '../unit/store/tools.ts'

const [directory, catalogFolder, first, count] = process.argv.slice(2)
const log = { debug() {}, info() {}, warn() {} }
const catalog = await Catalog.open(catalogFolder!)
const pool = await Pool.open({ directory: directory!, catalog, log }, { quotaBytes: 2 ** 30, minFreeBytes: 0 })
await pool.putMany(Array.from({ length: Number(count) }, (_, index) => entryOf(Number(first) + index)))
await catalog.write([], { sync: true })
process.stdout.write('put\n')
setInterval(() => undefined, 1000)
